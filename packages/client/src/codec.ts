// Compression by the name of its codec, as far as the runtime has it.
import { type BatchHeader, type CodecName, ProtocolError, type SealOptions } from '@millrace/protocol'
import type { ClientCodec } from './environment.js'
import { MillraceError } from './errors.js'

export type Compression = NonNullable<SealOptions['compression']>

/** Null for `none`. @throws MillraceError CODEC_UNAVAILABLE. */
export function compressionOf({ gzip, zstd }: ClientCodec, codec: CodecName): Compression | null {
  if (codec === 'none') return null
  if (codec === 'gzip') return { codec, compress: gzip }
  if (zstd === undefined) throw unavailable('batches cannot be compressed with zstd')
  return { codec, compress: zstd.compress }
}

/**
 * The records of a batch that was compressed.
 * @throws ProtocolError INVALID_BATCH for a body that is not what its header says; MillraceError CODEC_UNAVAILABLE.
 */
export function decompress({ gunzip, zstd }: ClientCodec, body: Uint8Array, header: BatchHeader): Uint8Array {
  const { codec, decodedBytes } = header
  if (codec === 'zstd' && zstd === undefined) throw unavailable('a batch is compressed with zstd')
  const unpack = codec === 'zstd' && zstd !== undefined ? zstd.decompress : gunzip
  let decoded: Uint8Array
  try {
    decoded = unpack(body, decodedBytes)
  } catch (cause) {
    throw new ProtocolError('INVALID_BATCH', 'the body cannot be decompressed within its decoded size', { cause })
  }
  if (decoded.length !== decodedBytes) {
    throw new ProtocolError('INVALID_BATCH', `${decoded.length} decoded bytes, the header says ${decodedBytes}`)
  }
  return decoded
}

const unavailable = (what: string): MillraceError =>
  new MillraceError('ERR_MILLRACE_CODEC_UNAVAILABLE', `${what}, which this runtime does not have`, {
    outcome: 'failed',
  })
