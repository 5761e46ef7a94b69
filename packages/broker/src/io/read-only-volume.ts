// A data directory opened for looking only: the kernel itself keeps this process from changing a byte of it.
import { constants } from 'node:fs'
import { open, readdir, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { BLOCK_BYTES, DiskError, type DiskFile, type FlushMethod, type Memory, type Volume } from '../environment.js'
import { directoryHolder } from './directory-lock.js'
import { assertPlainName, listFiles, spaceOf } from './portable/directory-files.js'
import { diskErrorFrom, systemCode } from './portable/disk-errors.js'
import { PortableFile } from './portable/portable-file.js'
import { readSmallFile } from './portable/small-file.js'

/**
 * A lock cannot be taken without writing one, so the lock of others is looked at instead: before, and by the caller
 * once more when it has read what it wanted (`directoryHolder`).
 * @throws DiskError LOCKED names the process that uses the directory; NOT_FOUND, PERMISSION.
 */
export async function openReadOnlyVolume(directory: string, memory: Memory): Promise<Volume> {
  try {
    if (!(await stat(directory)).isDirectory()) throw new DiskError('NOT_FOUND', `${directory} is not a directory`)
    const holder = await directoryHolder(directory)
    if (holder !== null) throw holder
    return new ReadOnlyVolume(directory, await canReadDirect(directory, memory))
  } catch (cause) {
    throw diskErrorFrom(cause, `opening ${directory}`)
  }
}

/** Tried on a file that is there: what is read past the page cache is what the disk holds. */
async function canReadDirect(directory: string, memory: Memory): Promise<boolean> {
  const name = (await readdir(directory)).find((found) => found.startsWith('slot-'))
  const block = name === undefined ? null : memory.allocate(BLOCK_BYTES)
  if (name === undefined || block === null || typeof constants.O_DIRECT !== 'number') return false
  try {
    const handle = await open(join(directory, name), constants.O_RDONLY | constants.O_DIRECT)
    try {
      await handle.read(block.bytes, 0, BLOCK_BYTES, 0)
    } finally {
      await handle.close()
    }
    return true
  } catch (cause) {
    const code = systemCode(cause)
    if (code === 'EINVAL' || code === 'EOPNOTSUPP' || code === 'EIO') return code === 'EIO'
    throw cause
  } finally {
    memory.release(block)
  }
}

class ReadOnlyVolume implements Volume {
  readonly flushMethod: FlushMethod = 'files'
  readonly note = null
  private readonly files = new Set<PortableFile>()

  constructor(
    readonly directory: string,
    readonly direct: boolean,
  ) {}

  list(): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
    return this.operation('listing', () => listFiles(this.directory))
  }

  open(name: string): Promise<DiskFile> {
    assertPlainName(name)
    return this.operation(`opening ${name} in`, async () => {
      const flags = constants.O_RDONLY | (this.direct ? constants.O_DIRECT : 0)
      const handle = await open(join(this.directory, name), flags)
      const file = new PortableFile(name, handle, this.directory, (closed) => this.files.delete(closed))
      this.files.add(file)
      return file
    })
  }

  readSmall(name: string): Promise<Uint8Array | null> {
    assertPlainName(name)
    return this.operation(`reading ${name} in`, () => readSmallFile(join(this.directory, name)))
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.operation('examining', () => spaceOf(this.directory))
  }

  remove(name: string): Promise<void> {
    return this.refuse(`removing ${name} from`)
  }

  syncDirectory(): Promise<void> {
    return this.refuse('flushing')
  }

  flushGrown(): Promise<void> {
    return this.refuse('flushing files of')
  }

  flush(): Promise<void> {
    return this.refuse('flushing files of')
  }

  writeSmall(name: string): Promise<void> {
    return this.refuse(`replacing ${name} in`)
  }

  async close(): Promise<void> {
    await Promise.all([...this.files].map((file) => file.close()))
  }

  private async refuse(doing: string): Promise<never> {
    throw new DiskError('READ_ONLY', `${doing} ${this.directory} failed: it was opened for looking only`)
  }

  private async operation<T>(doing: string, work: () => Promise<T>): Promise<T> {
    try {
      return await work()
    } catch (cause) {
      throw diskErrorFrom(cause, `${doing} ${this.directory}`)
    }
  }
}
