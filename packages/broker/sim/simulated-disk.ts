// The Disk of a simulated process: operations take virtual time, may fail, and end as the seed decides.
import {
  BLOCK_BYTES,
  type Block,
  type Disk,
  DiskError,
  type DiskFile,
  type FlushMethod,
  type Volume,
} from '#src/environment.js'
import { fault } from './disk-fault.js'
import type { DirectoryImage, DiskImage } from './disk-image.js'
import { FileImage, type FlushCover, writeImage } from './file-image.js'
import { Gate } from './gate.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'
import type { SimulatedMemory } from './simulated-memory.js'

const SMALL_FILE_BYTES = 1024 * 1024

/** What is wrong with the disk at the moment; changed by whoever drives the simulation. */
export interface DiskConditions {
  /** Everything takes this many times as long. */
  slowness: number
  writeErrorRate: number
  readErrorRate: number
  flushErrorRate: number
  /** Nothing more can be allocated. */
  full: boolean
  /** Files whose reads all fail. */
  unreadable: (name: string) => boolean
}

export function healthyDisk(): DiskConditions {
  return { slowness: 1, writeErrorRate: 0, readErrorRate: 0, flushErrorRate: 0, full: false, unreadable: () => false }
}

/** Called for what tests and coverage counts want to know. */
export interface DiskWatcher {
  onWritten?(): void
  onFlushSubmitted?(): void
  onFlush(files: number, pages: number): void
  onError(operation: string): void
}

/** Everything the parts of one process's disk share. */
class DiskContext {
  constructor(
    readonly scheduler: Scheduler,
    readonly process: SimulatedProcess,
    readonly memory: SimulatedMemory,
    readonly image: DiskImage,
    readonly conditions: DiskConditions,
    readonly random: SeededRandom,
    readonly watcher: DiskWatcher,
  ) {}

  /** Runs `complete` when the operation ends; if the process dies first, `abandon` decides what became of it. */
  async operation<T>(
    label: string,
    bytes: number,
    complete: () => T,
    abandon: (random: SeededRandom) => void = () => {},
  ): Promise<T> {
    const unfinished = { abandon }
    this.image.unfinished.add(unfinished)
    return new Promise((resolve, reject) => {
      this.scheduler.schedule(this.process, this.durationMs(label, bytes), `disk ${label}`, () => {
        this.image.unfinished.delete(unfinished)
        try {
          resolve(complete())
        } catch (cause) {
          if (cause instanceof DiskError) reject(cause)
          else throw cause
        }
      })
    })
  }

  fails(rate: number, operation: string): boolean {
    if (rate === 0 || !this.random.chance(rate)) return false
    this.watcher.onError(operation)
    return true
  }

  noSpace(message: string): DiskError {
    this.watcher.onError('allocation')
    return fault('NO_SPACE', message)
  }

  private durationMs(label: string, bytes: number): number {
    const base = label === 'flush' || label === 'sync' ? this.random.between(0.1, 0.3) : this.random.between(0.02, 0.12)
    const tail = this.random.chance(0.01) ? this.random.exponential(5) : 0
    return (base + tail + bytes / 2e6) * this.conditions.slowness
  }
}

export class SimulatedDisk implements Disk {
  private readonly context: DiskContext
  private readonly volumes = new Set<SimulatedVolume>()

  constructor(
    scheduler: Scheduler,
    process: SimulatedProcess,
    memory: SimulatedMemory,
    image: DiskImage,
    conditions: DiskConditions,
    random: SeededRandom,
    watcher: DiskWatcher,
  ) {
    this.context = new DiskContext(scheduler, process, memory, image, conditions, random, watcher)
  }

  openVolume(directory: string): Promise<Volume> {
    return this.context.operation('open volume', 0, () => {
      const image = this.context.image.directory(directory)
      if (image.holder !== null) throw fault('LOCKED', `${directory} is in use by ${image.holder.name}`)
      image.holder = this.context.process
      const volume = new SimulatedVolume(directory, image, this.context, () => this.volumes.delete(volume))
      this.volumes.add(volume)
      return volume
    })
  }

  async close(): Promise<void> {
    await Promise.all([...this.volumes].map((volume) => volume.close()))
  }
}

class SimulatedVolume implements Volume {
  readonly direct = true
  readonly flushMethod: FlushMethod = 'device'
  readonly note = null
  private readonly gate: Gate
  private readonly files = new Set<SimulatedFile>()
  private closing: Promise<void> | null = null

  constructor(
    readonly directory: string,
    private readonly image: DirectoryImage,
    private readonly context: DiskContext,
    private readonly onClosed: () => void,
  ) {
    this.gate = new Gate(`volume ${directory}`)
  }

  list(): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
    return this.operation('list', 0, () =>
      [...this.image.files].map(([name, image]) => ({ name, byteLength: image.size })),
    )
  }

  open(name: string, options: { readonly create?: boolean } = {}): Promise<DiskFile> {
    mustBePlainName(name)
    return this.operation('open', 0, () => {
      const found = this.image.files.get(name)
      if (found === undefined && options.create !== true) throw fault('NOT_FOUND', `${name} does not exist`)
      const image = found ?? this.image.create(name)
      const file = new SimulatedFile(name, image, this.context, () => this.files.delete(file))
      this.files.add(file)
      return file
    })
  }

  remove(name: string): Promise<void> {
    mustBePlainName(name)
    return this.operation('remove', 0, () => {
      if (!this.image.files.has(name)) throw fault('NOT_FOUND', `${name} does not exist`)
      this.image.remove(name)
    })
  }

  syncDirectory(): Promise<void> {
    // Only changes made before the sync was submitted are covered.
    const covered = this.image.pendingCount
    return this.operation('sync', 0, () => this.image.sync(covered))
  }

  space(): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
    return this.operation('space', 0, () => {
      const { capacityBytes, usedBytes } = this.context.image
      return { freeBytes: Math.max(0, capacityBytes - usedBytes), totalBytes: capacityBytes }
    })
  }

  flush(files: readonly DiskFile[]): Promise<void> {
    const images = [...new Set(files)].map((file) => {
      if (!(file instanceof SimulatedFile)) throw new Error('a flush was asked for a file of another disk')
      return file.image
    })
    return this.gate.pass(() => flushImages(this.context, 'flush', images, false))
  }

  async flushGrown(files: readonly DiskFile[]): Promise<void> {
    await Promise.all([...new Set(files)].map((file) => file.sync()))
  }

  readSmall(name: string): Promise<Uint8Array | null> {
    mustBePlainName(name)
    return this.operation('read small', 0, () => {
      const image = this.image.files.get(name)
      if (image === undefined) return null
      if (this.context.fails(this.context.conditions.readErrorRate, 'read')) throw inputOutput(name, 'reading')
      const bytes = new Uint8Array(image.size)
      image.read(0, bytes)
      return bytes
    })
  }

  writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    mustBePlainName(name)
    if (bytes.byteLength > SMALL_FILE_BYTES) throw new Error('a small file is at most 1 MiB')
    const replacement = FileImage.small(bytes)
    const replace = () => this.image.replace(name, replacement)
    return this.gate.pass(() =>
      this.context.operation(
        'write small',
        bytes.byteLength,
        () => {
          if (this.context.conditions.full) throw this.context.noSpace(`no space for ${name}`)
          if (this.context.fails(this.context.conditions.writeErrorRate, 'write')) throw inputOutput(name, 'writing')
          replace()
        },
        (random) => {
          if (random.chance(0.5)) replace()
        },
      ),
    )
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private async closeOnce(): Promise<void> {
    await this.gate.close()
    await Promise.all([...this.files].map((file) => file.close()))
    this.image.holder = null
    this.onClosed()
  }

  private operation<T>(label: string, bytes: number, complete: () => T): Promise<T> {
    return this.gate.pass(() => this.context.operation(label, bytes, complete))
  }
}

class SimulatedFile implements DiskFile {
  private readonly gate: Gate
  private closing: Promise<void> | null = null

  constructor(
    readonly name: string,
    readonly image: FileImage,
    private readonly context: DiskContext,
    private readonly onClosed: () => void,
  ) {
    this.gate = new Gate(`file ${name}`)
  }

  allocate(byteLength: number): Promise<void> {
    return this.gate.pass(() =>
      this.context.operation('allocate', 0, () => {
        const { conditions, image } = this.context
        const missing = Math.max(0, byteLength - this.image.size)
        if (missing > 0 && (conditions.full || image.usedBytes + missing > image.capacityBytes)) {
          throw this.context.noSpace(`${this.name} needs ${missing} bytes more than there are`)
        }
        this.image.grow(byteLength)
      }),
    )
  }

  write(position: number, block: Block, offset: number, length: number): Promise<void> {
    mustBeAligned(position, block, offset, length)
    return this.gate.pass(() => {
      const { conditions, memory } = this.context
      const image = writeImage(block.bytes.subarray(offset, offset + length), position)
      const use = memory.useUnchanged(block, offset, length)
      return this.context.operation(
        'write',
        length,
        () => {
          use.end()
          this.context.scheduler.trace.note('written', position / BLOCK_BYTES, length)
          if (position + length > this.image.size && conditions.full) {
            throw this.context.noSpace(`no space to write ${this.name}`)
          }
          if (this.context.fails(conditions.writeErrorRate, 'write')) {
            this.image.apply(image, () => this.context.random.chance(0.5))
            throw inputOutput(this.name, 'writing')
          }
          this.image.apply(image)
          this.context.watcher.onWritten?.()
        },
        (random) => {
          // The process is gone; the kernel may have carried out all of it, a part, or nothing.
          const reached = random.pick([0, 0.5, 1])
          this.image.apply(image, () => random.chance(reached))
        },
      )
    })
  }

  read(position: number, block: Block, offset: number, length: number): Promise<number> {
    mustBeAligned(position, block, offset, length)
    return this.gate.pass(() => {
      const use = this.context.memory.useForFilling(block, offset, length)
      return this.context.operation('read', length, () => {
        use.end()
        const { readErrorRate, unreadable } = this.context.conditions
        if (unreadable(this.name) || this.context.fails(readErrorRate, 'read')) throw inputOutput(this.name, 'reading')
        return this.image.read(position, block.bytes.subarray(offset, offset + length))
      })
    })
  }

  sync(): Promise<void> {
    return this.gate.pass(() => flushImages(this.context, 'sync', [this.image], true))
  }

  size(): Promise<number> {
    return this.gate.pass(() => this.context.operation('size', 0, () => this.image.size))
  }

  close(): Promise<void> {
    this.closing ??= this.gate.close().then(() => this.onClosed())
    return this.closing
  }
}

/** The flush contract of environment.ts: it covers the writes that had completed when it was submitted, no others. */
function flushImages(
  context: DiskContext,
  label: 'flush' | 'sync',
  images: readonly FileImage[],
  metadata: boolean,
): Promise<void> {
  const covers = images.map((image): [FileImage, FlushCover, number] => [image, image.cover(), image.size])
  context.watcher.onFlushSubmitted?.()
  const finish = () => {
    for (const [image, cover, size] of covers) image.flushed(cover, metadata, size)
  }
  return context.operation(
    label,
    0,
    () => {
      if (context.fails(context.conditions.flushErrorRate, 'flush')) {
        for (const [image, cover] of covers) image.flushFailed(cover, context.random)
        throw fault('INPUT_OUTPUT', 'the flush failed')
      }
      finish()
      context.watcher.onFlush(
        images.length,
        covers.reduce((pages, [, cover]) => pages + cover.size, 0),
      )
    },
    (random) => {
      if (random.chance(0.5)) finish()
    },
  )
}

function inputOutput(name: string, doing: string): DiskError {
  return fault('INPUT_OUTPUT', `${doing} ${name} failed: the disk reports an error`)
}

function mustBeAligned(position: number, block: Block, offset: number, length: number): void {
  const aligned = [position, offset, length].every((value) => value >= 0 && value % BLOCK_BYTES === 0)
  if (!aligned || length === 0 || offset + length > block.byteLength) {
    throw new Error(`not aligned: position ${position}, offset ${offset}, length ${length} of ${block.byteLength}`)
  }
}

function mustBePlainName(name: string): void {
  if (name === '' || name.includes('/') || name.startsWith('.') || name === 'LOCK') {
    throw new Error(`"${name}" is not a plain file name`)
  }
}
