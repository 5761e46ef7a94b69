// A directory as a volume through node:fs, and the trial that tells whether it takes direct I/O.
import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { mkdir, open, readdir, rm, stat, statfs } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
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
import { nearestDirectory } from '../nearest-directory.js'
import { refusePseudoFileSystem } from '../pseudo-file-system.js'
import { diskErrorFrom, systemCode } from './disk-errors.js'
import { OperationGate } from './operation-gate.js'
import { PortableFile } from './portable-file.js'
import { HIDDEN_PREFIX, isTemporary, readSmallFile, replaceSmallFile, syncDirectoryOf } from './small-file.js'

const SMALL_FILE_BYTES = 1024 * 1024
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

/**
 * Makes a directory and its parents, one after the other, each durable before the next.
 * @throws DiskError READ_ONLY on a file system of the kernel's own; PERMISSION, NO_SPACE.
 */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await refusePseudoFileSystem(directory)
    let path = await nearestDirectory(directory)
    for (const name of relative(path, resolve(directory))
      .split(sep)
      .filter((part) => part !== '')) {
      path = join(path, name)
      await makeUnlessThere(path)
      await syncDirectoryOf(path)
    }
  } catch (cause) {
    throw diskErrorFrom(cause, `making the directory ${directory}`)
  }
}

async function makeUnlessThere(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (cause) {
    // Another process may have made it since it was looked for.
    if (systemCode(cause) !== 'EEXIST' || !(await stat(path)).isDirectory()) throw cause
  }
}

/** A process that ended in the middle of replacing a small file leaves its temporary file behind. */
export async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (isTemporary(name)) await rm(join(directory, name), { force: true })
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
    const handle = await open(path, constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT, 0o600)
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

class PortableVolume implements Volume {
  readonly flushMethod: FlushMethod = 'files'
  readonly direct: boolean
  readonly note: string | null
  private readonly gate: OperationGate
  private readonly files = new Set<PortableFile>()
  private closing: Promise<void> | null = null

  constructor(
    readonly directory: string,
    mode: OpenMode,
    private readonly lock: DirectoryLock,
    private readonly onClosed: () => void,
  ) {
    this.direct = mode.direct
    this.note = mode.note
    this.gate = new OperationGate(`volume ${directory}`)
  }

  list(): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
    return this.operation('listing', () => listFiles(this.directory))
  }

  open(name: string, options: { readonly create?: boolean } = {}): Promise<DiskFile> {
    assertPlainName(name)
    return this.operation(`opening ${name} in`, async () => {
      const create = options.create === true ? constants.O_CREAT : 0
      const direct = this.direct ? constants.O_DIRECT : 0
      const handle = await open(join(this.directory, name), constants.O_RDWR | create | direct, 0o600)
      const file = new PortableFile(name, handle, this.directory, (closed) => this.files.delete(closed))
      this.files.add(file)
      return file
    })
  }

  remove(name: string): Promise<void> {
    assertPlainName(name)
    return this.operation(`removing ${name} from`, () => rm(join(this.directory, name)))
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

  readSmall(name: string): Promise<Uint8Array | null> {
    assertPlainName(name)
    return this.operation(`reading ${name} in`, () => readSmallFile(join(this.directory, name)))
  }

  writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    assertPlainName(name)
    assert(bytes.byteLength <= SMALL_FILE_BYTES, 'a small file is at most 1 MiB')
    return this.operation(`replacing ${name} in`, () => replaceSmallFile(this.directory, name, bytes))
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private async closeOnce(): Promise<void> {
    await this.gate.close()
    try {
      await Promise.all([...this.files].map((file) => file.close()))
    } finally {
      await this.lock.release()
      this.onClosed()
    }
  }

  private async operation<T>(doing: string, work: () => Promise<T>): Promise<T> {
    this.gate.enter()
    try {
      return await work()
    } catch (cause) {
      throw diskErrorFrom(cause, `${doing} ${this.directory}`)
    } finally {
      this.gate.leave()
    }
  }
}

/** Flushes each file; none is still being flushed when this settles. @throws DiskError */
export async function syncFiles(files: readonly DiskFile[]): Promise<void> {
  const results = await Promise.allSettled([...new Set(files)].map((file) => file.sync()))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** The files of a volume and their sizes, but for those that keep it. */
export async function listFiles(
  directory: string,
): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
  const entries = await readdir(directory, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isFile() && isOurs(entry.name)).map(({ name }) => name)
  return Promise.all(names.map(async (name) => ({ name, byteLength: (await stat(join(directory, name))).size })))
}

/** What `Volume.space` tells. */
export async function spaceOf(directory: string): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
  const { bavail, blocks, bsize } = await statfs(directory)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

function isOurs(name: string): boolean {
  return name !== LOCK_FILE_NAME && !name.startsWith(HIDDEN_PREFIX)
}

export function assertPlainName(name: string): void {
  assert(name !== '' && !name.includes('/') && !name.includes('\0') && isOurs(name), `"${name}" is a plain file name`)
}
