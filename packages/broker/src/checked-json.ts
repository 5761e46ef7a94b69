// Small JSON files that a person can read and that notice when they are changed or damaged: with the number of their format
// and a checksum over the line without it.
import { crc32 } from '@millrace/protocol'
import { StartError } from './start-error.js'

const FORMAT = 1

/** @param content of JSON values; none of its fields is called `format` or `checksum`. */
export function encodeCheckedJson(content: object): Uint8Array {
  const checked = { format: FORMAT, ...content }
  return encoder.encode(`${JSON.stringify({ ...checked, checksum: checksumOf(checked) })}\n`)
}

/** @throws StartError DATA_CORRUPT, DATA_OF_NEWER_VERSION. */
export function parseCheckedJson(
  bytes: Uint8Array,
  file: string,
  directory: string,
): Readonly<Record<string, unknown>> {
  let parsed: unknown
  try {
    parsed = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw corruptFile(file, directory, 'is not JSON', cause)
  }
  if (typeof parsed !== 'object' || parsed === null) throw corruptFile(file, directory, 'does not make sense')
  const { checksum, ...content } = parsed as Record<string, unknown>
  const { format } = content
  if (typeof format === 'number' && format > FORMAT) {
    throw new StartError(
      'DATA_OF_NEWER_VERSION',
      `${directory} was written by a newer version of Millrace (format ${format}): upgrade this broker`,
    )
  }
  if (checksum !== checksumOf(content)) throw corruptFile(file, directory, 'was changed or damaged')
  if (format !== FORMAT) throw corruptFile(file, directory, 'does not make sense')
  return content
}

export function corruptFile(file: string, directory: string, what: string, cause?: unknown): StartError {
  const advice = 'put the original back from a copy; the data beside it is untouched'
  return new StartError('DATA_CORRUPT', `${file} in ${directory} ${what}: ${advice}`, { cause })
}

function checksumOf(content: object): string {
  return crc32(encoder.encode(JSON.stringify(content)), 0)
    .toString(16)
    .padStart(8, '0')
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
