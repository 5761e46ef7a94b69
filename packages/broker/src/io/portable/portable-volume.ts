// A directory as a volume through node:fs, and the trial that tells whether it takes direct I/O.
import { constants } from 'node:fs'
import { open, rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  BLOCK_BYTES,
  type Disk,
  DiskError,
  type DiskFile,
  type FlushMethod,
  type Memory,
  type Volume,
  type VolumeOptions,
} from '../../environment.js'
import { acquireDirectoryLock, type DirectoryLock, LOCK_FILE_NAME } from '../directory-lock.js'
import { makeDirectory, removeLeftovers, spaceOf, syncFiles } from './directory-files.js'
import { DirectoryVolume, FILE_MODE } from './directory-volume.js'
import { diskErrorFrom, systemCode } from './disk-errors.js'
import { PortableFile } from './portable-file.js'
import { HIDDEN_PREFIX, syncDirectoryOf } from './small-file.js'

const PROBE_NAME = `${HIDDEN_PREFIX}direct-probe`

interface OpenMode {
  readonly direct: boolean
  readonly note: string | null
}

export class PortableDisk implements Disk {
  private readonly volumes = new Set<PortableVolume>()

  constructor(private readonly memory: Memory) {}

  async openVolume(directory: string, options: VolumeOptions): Promise<Volume> {
    await makeDirectory(directory)
    const lock = await acquireDirectoryLock(directory)
    try {
      await removeLeftovers(directory)
      const mode = await probeDirect(directory, this.memory)
      if (options.requireDirect && !mode.direct) {
        throw new DiskError('NO_DIRECT_IO', `direct I/O is required and not to be had: ${mode.note}`)
      }
      const volume = new PortableVolume(directory, mode, lock, () => this.volumes.delete(volume))
      this.volumes.add(volume)
      return volume
    } catch (cause) {
      await lock.release()
      throw diskErrorFrom(cause, `opening the volume ${directory}`)
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.volumes].map((volume) => volume.close()))
  }
}

/** Direct I/O is tried rather than looked up: file systems, kernels and containers differ in too many ways. */
async function probeDirect(directory: string, memory: Memory): Promise<OpenMode> {
  if (typeof constants.O_DIRECT !== 'number') {
    return { direct: false, note: 'this platform has no O_DIRECT; buffered I/O, made durable by a sync' }
  }
  const block = memory.allocate(BLOCK_BYTES)
  if (block === null) throw new DiskError('OTHER', 'no memory is left to try direct I/O with')
  const path = join(directory, PROBE_NAME)
  try {
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT, FILE_MODE)
    try {
      await handle.write(block.bytes, 0, BLOCK_BYTES, 0)
      await handle.read(block.bytes, 0, BLOCK_BYTES, 0)
    } finally {
      await handle.close()
    }
    return { direct: true, note: null }
  } catch (cause) {
    if (systemCode(cause) !== 'EINVAL' && systemCode(cause) !== 'EOPNOTSUPP') throw cause
    return { direct: false, note: 'the file system refuses O_DIRECT; buffered I/O, made durable by a sync' }
  } finally {
    memory.release(block)
    await rm(path, { force: true })
  }
}

class PortableVolume extends DirectoryVolume<PortableFile> {
  readonly flushMethod: FlushMethod = 'files'
  readonly direct: boolean
  readonly note: string | null

  constructor(
    directory: string,
    mode: OpenMode,
    private readonly lock: DirectoryLock,
    private readonly onClosed: () => void,
  ) {
    super(directory)
    this.direct = mode.direct
    this.note = mode.note
  }

  syncDirectory(): Promise<void> {
    return this.operation('flushing', () => syncDirectoryOf(join(this.directory, LOCK_FILE_NAME)))
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.operation('examining', () => spaceOf(this.directory))
  }

  flush(files: readonly DiskFile[]): Promise<void> {
    return this.operation('flushing files of', () => syncFiles(files))
  }

  flushGrown(files: readonly DiskFile[]): Promise<void> {
    return this.flush(files)
  }

  protected async openFile(
    name: string,
    path: string,
    flags: number,
    onClosed: (file: PortableFile) => void,
  ): Promise<PortableFile> {
    return new PortableFile(name, await open(path, flags, FILE_MODE), this.directory, onClosed)
  }

  protected async closed(): Promise<void> {
    await this.lock.release()
    this.onClosed()
  }
}
