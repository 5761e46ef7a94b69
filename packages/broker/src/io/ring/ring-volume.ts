// A directory as a volume on the ring: direct I/O and the cheapest flush where trials allow them.
import assert from 'node:assert/strict'
import { constants } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import {
  closeDescriptor,
  type FileSystemFacts,
  fileSystemOf,
  openFile,
  SystemError,
  syncFileSystem,
} from '@millrace/native'
import {
  BLOCK_BYTES,
  type Disk,
  DiskError,
  type DiskFile,
  type FlushMethod,
  type Volume,
  type VolumeOptions,
} from '../../environment.js'
import { acquireDirectoryLock, type DirectoryLock } from '../directory-lock.js'
import { diskErrorFrom } from '../portable/disk-errors.js'
import { OperationGate } from '../portable/operation-gate.js'
import { assertPlainName, listFiles, makeDirectory, removeLeftovers, syncFiles } from '../portable/portable-volume.js'
import { HIDDEN_PREFIX, readSmallFile, replaceSmallFile } from '../portable/small-file.js'
import { chooseFlush, type FlushChoice } from './flush-probe.js'
import { FileContext, RingFile } from './ring-file.js'
import type { RingLoop } from './ring-loop.js'
import type { RingMemory } from './ring-memory.js'

/** So many files are flushed faster together with everything else on the file system than one by one. */
const MANY_FILES = 8
const SMALL_FILE_BYTES = 1024 * 1024
const PROBE_NAME = `${HIDDEN_PREFIX}direct-probe`
/** Never written: its fdatasync is a flush of the device and nothing else. */
const FLUSH_NAME = `${HIDDEN_PREFIX}flush`
const FILE_MODE = 0o600

export class RingDisk implements Disk {
  private readonly volumes = new Set<RingVolume>()
  private readonly context: FileContext

  constructor(loop: RingLoop, memory: RingMemory) {
    this.context = new FileContext(loop, memory)
  }

  async openVolume(directory: string, options: VolumeOptions): Promise<Volume> {
    this.context.loop.assertOpen()
    await makeDirectory(directory)
    const lock = await acquireDirectoryLock(directory)
    const opened: number[] = []
    try {
      await removeLeftovers(directory)
      const directoryDescriptor = openFile(directory, constants.O_RDONLY | constants.O_DIRECTORY)
      opened.push(directoryDescriptor)
      const facts = fileSystemOf(directoryDescriptor)
      const directNote = await tryDirect(directory, this.context)
      if (options.requireDirect && directNote !== null) {
        throw new DiskError('NO_DIRECT_IO', `direct I/O is required and not to be had: ${directNote}`)
      }
      const flush = await chooseFlush(facts, directNote === null)
      const flushDescriptor = openFile(join(directory, FLUSH_NAME), constants.O_RDWR | constants.O_CREAT, FILE_MODE)
      opened.push(flushDescriptor)
      await this.context.sync(flushDescriptor, true, `flushing ${directory}`)
      const parts = { directoryDescriptor, flushDescriptor, directNote, flush, lock }
      const volume = new RingVolume(directory, this.context, parts, () => this.volumes.delete(volume))
      this.volumes.add(volume)
      return volume
    } catch (cause) {
      for (const descriptor of opened) closeDescriptor(descriptor)
      await lock.release()
      throw diskErrorFrom(cause, `opening the volume ${directory}`)
    }
  }

  async close(): Promise<void> {
    await Promise.all([...this.volumes].map((volume) => volume.close()))
  }
}

/** Tries a direct write and read; null when it works, else why not. */
async function tryDirect(directory: string, context: FileContext): Promise<string | null> {
  const block = context.memory.allocate(BLOCK_BYTES)
  if (block === null) throw new DiskError('OTHER', 'no memory is left to try direct I/O with')
  const path = join(directory, PROBE_NAME)
  try {
    const flags = constants.O_RDWR | constants.O_CREAT | constants.O_DIRECT
    const file = new RingFile(PROBE_NAME, openFile(path, flags, FILE_MODE), context, () => {})
    try {
      block.bytes.fill(0x5a)
      await file.write(0, block, 0, BLOCK_BYTES)
      block.bytes.fill(0)
      await file.read(0, block, 0, BLOCK_BYTES)
    } finally {
      await file.close()
    }
    return block.bytes.every((byte) => byte === 0x5a) ? null : 'a direct read gives back other bytes than were written'
  } catch (cause) {
    const refusal = cause instanceof DiskError && cause.cause instanceof SystemError ? cause.cause : cause
    if (!(refusal instanceof SystemError) || !['EINVAL', 'ENOTSUP'].includes(refusal.code)) throw cause
    return 'the file system refuses O_DIRECT; buffered I/O, made durable by a sync'
  } finally {
    context.memory.release(block)
    await rm(path, { force: true })
  }
}

interface VolumeParts {
  readonly directoryDescriptor: number
  readonly flushDescriptor: number
  readonly directNote: string | null
  readonly flush: FlushChoice
  readonly lock: DirectoryLock
}

class RingVolume implements Volume {
  readonly direct: boolean
  readonly flushMethod: FlushMethod
  readonly note: string | null
  private readonly gate: OperationGate
  private readonly files = new Set<RingFile>()
  private closing: Promise<void> | null = null

  constructor(
    readonly directory: string,
    private readonly context: FileContext,
    private readonly parts: VolumeParts,
    private readonly onClosed: () => void,
  ) {
    this.direct = parts.directNote === null
    this.flushMethod = parts.flush.method
    const notes = [parts.directNote, parts.flush.note].filter((note) => note !== null)
    this.note = notes.length === 0 ? null : notes.join('; ')
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
      const descriptor = openFile(join(this.directory, name), constants.O_RDWR | create | direct, FILE_MODE)
      const file = new RingFile(name, descriptor, this.context, (closed) => this.files.delete(closed))
      this.files.add(file)
      return file
    })
  }

  remove(name: string): Promise<void> {
    assertPlainName(name)
    return this.operation(`removing ${name} from`, () => rm(join(this.directory, name)))
  }

  syncDirectory(): Promise<void> {
    return this.operation('flushing', () =>
      this.context.sync(this.parts.directoryDescriptor, true, `flushing ${this.directory}`),
    )
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.operation('examining', async () => {
      const { freeBytes, totalBytes }: FileSystemFacts = fileSystemOf(this.parts.directoryDescriptor)
      return { freeBytes, totalBytes }
    })
  }

  flush(files: readonly DiskFile[]): Promise<void> {
    return this.operation('flushing files of', async () => {
      if (files.length === 0) return
      if (this.flushMethod === 'syncfs') return syncFileSystem(this.parts.directoryDescriptor)
      if (this.flushMethod === 'files') return syncFiles(files)
      await this.context.sync(this.parts.flushDescriptor, false, `flushing ${this.directory}`)
    })
  }

  flushGrown(files: readonly DiskFile[]): Promise<void> {
    return this.operation('flushing files of', async () => {
      if (files.length < MANY_FILES || this.flushMethod === 'files') return syncFiles(files)
      await syncFileSystem(this.parts.directoryDescriptor)
      // Without a journal, syncfs writes metadata after its own flush of the device.
      if (this.flushMethod === 'device') {
        await this.context.sync(this.parts.flushDescriptor, false, `flushing ${this.directory}`)
      }
    })
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
      const { directoryDescriptor, flushDescriptor } = this.parts
      for (const descriptor of [directoryDescriptor, flushDescriptor]) {
        this.context.closeDescriptor(descriptor, `closing ${this.directory}`)
      }
      // Writes left to the kernel may still reach the disk: nobody may open the directory before this process ends.
      if (!this.context.loop.leaked) await this.parts.lock.release()
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
