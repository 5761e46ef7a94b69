// A directory as a volume on the ring: direct I/O and the cheapest flush where trials allow them.
import { constants, open } from 'node:fs'
import { rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
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
import { makeDirectory, removeLeftovers, syncFiles } from '../portable/directory-files.js'
import { DirectoryVolume, FILE_MODE } from '../portable/directory-volume.js'
import { diskErrorFrom } from '../portable/disk-errors.js'
import { HIDDEN_PREFIX } from '../portable/small-file.js'
import { chooseFlush, type FlushChoice } from './flush-probe.js'
import { FileContext, RingFile } from './ring-file.js'
import type { RingLoop } from './ring-loop.js'
import type { RingMemory } from './ring-memory.js'

/** So many files are flushed faster together with everything else on the file system than one by one. */
const MANY_FILES = 8
const PROBE_NAME = `${HIDDEN_PREFIX}direct-probe`
/** Never written: its fdatasync is a flush of the device and nothing else. */
const FLUSH_NAME = `${HIDDEN_PREFIX}flush`

/** Off this thread. */
const openApart = promisify(open)

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

class RingVolume extends DirectoryVolume<RingFile> {
  readonly direct: boolean
  readonly flushMethod: FlushMethod
  readonly note: string | null

  constructor(
    directory: string,
    private readonly context: FileContext,
    private readonly parts: VolumeParts,
    private readonly onClosed: () => void,
  ) {
    super(directory)
    this.direct = parts.directNote === null
    this.flushMethod = parts.flush.method
    const notes = [parts.directNote, parts.flush.note].filter((note) => note !== null)
    this.note = notes.length === 0 ? null : notes.join('; ')
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

  protected async openFile(
    name: string,
    path: string,
    flags: number,
    onClosed: (file: RingFile) => void,
  ): Promise<RingFile> {
    // Making a file waits for the journal of the file system now and then, and peers must not wait with it.
    const isMade = (flags & constants.O_CREAT) !== 0
    const descriptor = isMade ? await openApart(path, flags, FILE_MODE) : openFile(path, flags, FILE_MODE)
    return new RingFile(name, descriptor, this.context, onClosed)
  }

  protected async closed(): Promise<void> {
    const { directoryDescriptor, flushDescriptor, lock } = this.parts
    for (const descriptor of [directoryDescriptor, flushDescriptor]) {
      this.context.closeDescriptor(descriptor, `closing ${this.directory}`)
    }
    // Writes left to the kernel may still reach the disk: nobody may open the directory before this process ends.
    if (!this.context.loop.leaked) await lock.release()
    this.onClosed()
  }
}
