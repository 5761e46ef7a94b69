// Follows a trace and keeps apart what is durable for sure from what a power failure would leave to chance.
import type { DiskOperation, TraceEvent } from './disk-trace.js'
import { PAGE_BYTES, PageFile, SECTOR_BYTES, type VolumeImage, ZERO_PAGE } from './page-image.js'

/** What a flush of the volume covers: the files it names, or completed writes of all files. */
export type FlushModel = 'files' | 'volume'

interface PendingWrite {
  readonly file: string
  readonly page: number
  readonly bytes: Uint8Array
  completed: boolean
  readonly id: number
}

/** One sector that may hold old or one of several new contents. */
export interface SectorChoice {
  readonly kind: 'sector'
  readonly file: string
  readonly page: number
  readonly offset: number
  /** Oldest first; the durable content is not among them. */
  readonly versions: readonly Uint8Array[]
  /** Whether the write of the last version had completed. */
  readonly completed: boolean
}

/** A change of names, sizes or small files that has happened or not. */
export interface ChangeChoice {
  readonly kind: 'change'
  readonly operation: DiskOperation
  readonly completed: boolean
}

export type Choice = SectorChoice | ChangeChoice

interface PendingChange {
  readonly id: number
  readonly operation: DiskOperation
  completed: boolean
}

export class DurableState {
  /** Names that are durable, with what is durable of their contents. */
  readonly image: VolumeImage
  private writes: PendingWrite[] = []
  private changes: PendingChange[] = []
  /** Pages whose first write was recorded by a sync: a flush is enough for them from then on. */
  private readonly written = new Map<string, Set<number>>()
  /** Contents of a file can be durable before its name is. */
  private readonly nameless = new Map<string, PageFile>()
  private readonly covered = new Map<number, { readonly writes: PendingWrite[]; readonly changes: PendingChange[] }>()

  constructor(
    start: VolumeImage,
    private readonly model: FlushModel,
  ) {
    this.image = start.copy()
    for (const [name, { pages }] of start.files) this.written.set(name, new Set(pages.keys()))
  }

  step(event: TraceEvent): void {
    if (event.kind === 'submit') this.submitted(event.id, event.operation)
    else if (event.kind === 'complete') this.completed(event.id, event.operation)
  }

  private submitted(id: number, operation: DiskOperation): void {
    switch (operation.kind) {
      case 'write':
        for (let at = 0; at < operation.bytes.length; at += PAGE_BYTES) {
          const page = (operation.position + at) / PAGE_BYTES
          const bytes = operation.bytes.subarray(at, at + PAGE_BYTES)
          this.writes.push({ file: operation.file, page, bytes, completed: false, id })
        }
        return
      case 'flush':
      case 'sync':
      case 'syncDirectory':
        this.covered.set(id, this.coveredBy(operation))
        return
      case 'create':
      case 'remove':
      case 'allocate':
      case 'writeSmall':
        this.changes.push({ id, operation, completed: false })
    }
  }

  /** Only what had completed when the flush was submitted. */
  private coveredBy(operation: DiskOperation & { kind: 'flush' | 'sync' | 'syncDirectory' }) {
    const changes = this.changes.filter((change) => {
      if (!change.completed) return false
      const { kind } = change.operation
      if (operation.kind === 'syncDirectory') return kind === 'create' || kind === 'remove'
      return kind === 'allocate' && operation.kind === 'sync' && operation.files.includes(change.operation.file)
    })
    if (operation.kind === 'syncDirectory') return { writes: [], changes }
    const writes = this.writes.filter(({ file, page, completed }) => {
      if (!completed) return false
      if (operation.kind === 'sync') return operation.files.includes(file)
      const known = this.written.get(file)?.has(page) === true
      return known && (this.model === 'volume' || operation.files.includes(file))
    })
    return { writes, changes }
  }

  private completed(id: number, operation: DiskOperation): void {
    for (const write of this.writes) if (write.id === id) write.completed = true
    for (const change of this.changes) if (change.id === id) change.completed = true
    if (operation.kind === 'writeSmall')
      this.settle(
        [],
        this.changes.filter((change) => change.id === id),
      )
    const covered = this.covered.get(id)
    if (covered === undefined) return
    this.covered.delete(id)
    this.settle(covered.writes, covered.changes)
    if (operation.kind !== 'sync') return
    for (const { file, page } of covered.writes) {
      const pages = this.written.get(file) ?? new Set()
      pages.add(page)
      this.written.set(file, pages)
    }
  }

  /** Two flushes may cover the same change: it happens once. */
  private settle(writes: readonly PendingWrite[], changes: readonly PendingChange[]): void {
    const settled = new Set<unknown>([...writes, ...changes])
    for (const change of this.changes) if (settled.has(change)) this.apply(change.operation, this.image)
    for (const write of this.writes) {
      if (settled.has(write)) this.fileOf(write.file).setPage(write.page, write.bytes)
    }
    this.writes = this.writes.filter((write) => !settled.has(write))
    this.changes = this.changes.filter((change) => !settled.has(change))
  }

  private fileOf(name: string): PageFile {
    const named = this.image.files.get(name)
    if (named !== undefined) return named
    let file = this.nameless.get(name)
    if (file === undefined) {
      file = new PageFile()
      this.nameless.set(name, file)
    }
    return file
  }

  private apply(operation: DiskOperation, image: VolumeImage): void {
    switch (operation.kind) {
      case 'create': {
        const file = this.nameless.get(operation.file) ?? new PageFile()
        image.files.set(operation.file, image === this.image ? file : file.copy())
        return
      }
      case 'remove':
        image.files.delete(operation.file)
        return
      case 'allocate':
        if (image === this.image) this.fileOf(operation.file).grow(operation.byteLength)
        else image.files.get(operation.file)?.grow(operation.byteLength)
        return
      case 'writeSmall':
        image.small.set(operation.file, operation.bytes)
    }
  }

  /** Everything that is not certain. Sectors whose new content is the old one are no choice. */
  choices(): Choice[] {
    const choices: Choice[] = []
    for (const { operation, completed } of this.changes) choices.push({ kind: 'change', operation, completed })
    const pages = new Map<string, PendingWrite[]>()
    for (const write of this.writes) {
      const key = `${write.file}/${write.page}`
      const list = pages.get(key)
      if (list === undefined) pages.set(key, [write])
      else list.push(write)
    }
    for (const writes of pages.values()) this.addSectors(choices, writes)
    return choices
  }

  private addSectors(choices: Choice[], writes: readonly PendingWrite[]): void {
    const { file, page } = writes[0]!
    const old = (this.image.files.get(file) ?? this.nameless.get(file))?.page(page) ?? ZERO_PAGE
    for (let offset = 0; offset < PAGE_BYTES; offset += SECTOR_BYTES) {
      const before = old.subarray(offset, offset + SECTOR_BYTES)
      const versions = writes
        .map(({ bytes }) => bytes.subarray(offset, offset + SECTOR_BYTES))
        .filter((bytes) => Buffer.compare(bytes, before) !== 0)
      if (versions.length === 0) continue
      choices.push({ kind: 'sector', file, page, offset, versions, completed: writes.at(-1)!.completed })
    }
  }

  /** The image that a crash leaves when every choice falls as `choose` says: null is old. */
  build(choices: readonly Choice[], choose: (choice: Choice, number: number) => Uint8Array | boolean): VolumeImage {
    const image = this.image.copy()
    for (const [i, choice] of choices.entries()) {
      if (choice.kind === 'change' && choose(choice, i) === true) this.apply(choice.operation, image)
    }
    const fresh = new Set<Uint8Array>()
    for (const [i, choice] of choices.entries()) {
      if (choice.kind !== 'sector') continue
      const chosen = choose(choice, i)
      const file = image.files.get(choice.file)
      if (file === undefined || !(chosen instanceof Uint8Array)) continue
      let page = file.page(choice.page)
      if (!fresh.has(page)) {
        page = page.slice()
        fresh.add(page)
        file.setPage(choice.page, page)
      }
      page.set(chosen, choice.offset)
    }
    return image
  }
}
