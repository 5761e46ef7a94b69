// Small files that are replaced as a whole: after a crash there is the old content or the new, never a mixture.
import { open, readFile, rename, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { systemCode } from './disk-errors.js'

/** Names that begin with this belong to the environment; `Volume.list` does not show them. */
export const HIDDEN_PREFIX = '.'
const TEMPORARY_SUFFIX = '.new'
let temporaries = 0

/** Whether a name is that of a temporary file of `replaceSmallFile`. */
export function isTemporary(name: string): boolean {
  return name.startsWith(HIDDEN_PREFIX) && name.endsWith(TEMPORARY_SUFFIX)
}

/** Bytes of a file, or null when it does not exist. Errors of the system pass through. */
export async function readSmallFile(path: string): Promise<Uint8Array | null> {
  try {
    const bytes = await readFile(path)
    return new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return null
    throw cause
  }
}

/** Temporary file, sync, rename, directory sync. Errors of the system pass through; the old content stays then. */
export async function replaceSmallFile(directory: string, name: string, bytes: Uint8Array): Promise<void> {
  const temporary = join(directory, `${HIDDEN_PREFIX}${name}.${++temporaries}${TEMPORARY_SUFFIX}`)
  try {
    const file = await open(temporary, 'w', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    await rename(temporary, join(directory, name))
  } catch (cause) {
    await rm(temporary, { force: true })
    throw cause
  }
  await syncDirectoryOf(join(directory, name))
}

/** Makes the directory entry of `path` durable. */
export async function syncDirectoryOf(path: string): Promise<void> {
  const directory = await open(dirname(path), 'r')
  try {
    await directory.sync()
  } finally {
    await directory.close()
  }
}
