// A volume over an image in memory that notes every operation. Completions come at once or when the driver says.
import { type Block, DiskError, type DiskFile, type FlushMethod, type Volume } from '#src/environment.js'
import type { DiskOperation, DiskTrace } from './disk-trace.js'
import { PageFile, type VolumeImage } from './page-image.js'

/** Decides when operations complete. */
export interface CompletionOrder {
  /** Calls `complete` once, now or later, and resolves then. */
  /** @param file that it is done to, where it is one. */
  run<T>(label: string, complete: () => T, file?: string): Promise<T>
}

export const AT_ONCE: CompletionOrder = { run: async (_, complete) => complete() }

export class TracedVolume implements Volume {
  readonly directory = 'crash'
  readonly direct = true
  readonly flushMethod: FlushMethod = 'device'
  readonly note = null
  /** Bytes read since it was opened. */
  bytesRead = 0
  /** So many of the next flushes and syncs fail: an error is answered, and what they covered is never durable. */
  failingFlushes = 0

  /** @param trace null for a volume that nobody will crash. */
  constructor(
    readonly image: VolumeImage,
    readonly trace: DiskTrace | null,
    readonly order: CompletionOrder,
  ) {}

  list() {
    return this.order.run('list', () => [...this.image.files].map(([name, { size }]) => ({ name, byteLength: size })))
  }

  async open(name: string, options: { readonly create?: boolean } = {}): Promise<DiskFile> {
    if (this.image.files.has(name)) return new TracedFile(name, this)
    if (options.create !== true) throw new DiskError('NOT_FOUND', name)
    await this.change({ kind: 'create', file: name }, () => this.image.files.set(name, new PageFile()))
    return new TracedFile(name, this)
  }

  async remove(name: string): Promise<void> {
    await this.change({ kind: 'remove', file: name }, () => this.image.files.delete(name))
  }

  async syncDirectory(): Promise<void> {
    await this.change({ kind: 'syncDirectory' }, () => {})
  }

  space() {
    return this.order.run('space', () => ({ freeBytes: 2 ** 40, totalBytes: 2 ** 40 }))
  }

  async flush(files: readonly DiskFile[]): Promise<void> {
    await this.change({ kind: 'flush', files: files.map(({ name }) => name) }, () => {})
  }

  async flushGrown(files: readonly DiskFile[]): Promise<void> {
    await this.change({ kind: 'sync', files: files.map(({ name }) => name) }, () => {})
  }

  readSmall(name: string): Promise<Uint8Array | null> {
    return this.order.run('read small', () => this.image.small.get(name) ?? null)
  }

  async writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    const copy = bytes.slice()
    await this.change({ kind: 'writeSmall', file: name, bytes: copy }, () => this.image.small.set(name, copy))
  }

  async close(): Promise<void> {}

  async change(operation: DiskOperation, complete: () => void): Promise<void> {
    const id = this.trace?.submit(operation) ?? 0
    await this.order.run(operation.kind, () => {
      const failed = this.failingFlushes > 0 && (operation.kind === 'flush' || operation.kind === 'sync')
      if (!failed) complete()
      this.trace?.complete(id, operation, failed)
      if (!failed) return
      this.failingFlushes--
      throw new DiskError('INPUT_OUTPUT', `the ${operation.kind} was made to fail`)
    })
  }
}

class TracedFile implements DiskFile {
  constructor(
    readonly name: string,
    private readonly volume: TracedVolume,
  ) {}

  private get pages(): PageFile {
    const pages = this.volume.image.files.get(this.name)
    if (pages === undefined) throw new DiskError('NOT_FOUND', this.name)
    return pages
  }

  allocate(byteLength: number): Promise<void> {
    return this.volume.change({ kind: 'allocate', file: this.name, byteLength }, () => this.pages.grow(byteLength))
  }

  write(position: number, block: Block, offset: number, length: number): Promise<void> {
    const source = block.bytes.subarray(offset, offset + length)
    if (this.volume.trace === null && this.volume.order === AT_ONCE) {
      this.pages.writeCopy(position, source)
      return Promise.resolve()
    }
    const bytes = source.slice()
    return this.volume.change({ kind: 'write', file: this.name, position, bytes }, () => {
      if (Buffer.compare(source, bytes) !== 0) throw new Error(`the bytes of a write to ${this.name} changed under way`)
      this.pages.write(position, bytes)
    })
  }

  read(position: number, block: Block, offset: number, length: number): Promise<number> {
    const read = (): number => {
      const count = this.pages.read(position, block.bytes.subarray(offset, offset + length))
      this.volume.bytesRead += count
      return count
    }
    return this.volume.order.run('read', read, this.name)
  }

  sync(): Promise<void> {
    return this.volume.change({ kind: 'sync', files: [this.name] }, () => {})
  }

  async size(): Promise<number> {
    return this.pages.size
  }

  async close(): Promise<void> {}
}
