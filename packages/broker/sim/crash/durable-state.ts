// Follows a trace and keeps apart what is durable for sure from what a power failure would leave to chance.
import type { SeededRandom } from '../random.js'
import type { DiskOperation, TraceEvent } from './disk-trace.js'
import { PAGE_BYTES, PageFile, SECTOR_BYTES, type VolumeImage, ZERO_PAGE } from './page-image.js'

/** What a flush of the volume covers: the files it names, or completed writes of all files. */
export type FlushModel = 'files' | 'volume'

interface PendingWrite {
  readonly file: string
  readonly page: number
  readonly bytes: Uint8Array
  completed: boolean
  /** A flush that covered it has failed: no later one will make it durable, whatever it answers. */
  doomed: boolean
  readonly id: number
}

/** One sector under way. */
export interface Sector {
  readonly file: string
  readonly page: number
  readonly offset: number
}

/** A sector that may hold old or one of several new contents. */
export interface SectorChoice extends Sector {
  readonly kind: 'sector'
  /** In the order of their submission; the durable content is not among them. */
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

/** Where a sector, or a whole page that was never written, holds something else than the choices say. */
export interface Override {
  readonly file: string
  readonly page: number
  readonly offset: number
  readonly bytes: Uint8Array
}

interface PendingChange {
  readonly id: number
  readonly operation: DiskOperation
  completed: boolean
}

type FlushOperation = DiskOperation & { readonly kind: 'flush' | 'sync' | 'syncDirectory' }

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

  /**
   * The process died and the power did not fail: what it had asked for has happened or will not, and what has happened
   * is seen by the next process, but is no more durable than before. What a failed flush covered is read from the device,
   * past every cache: it is there, and like anything else that waits for a flush, or it is gone.
   */
  afterKill(random: SeededRandom): DurableState {
    const state = new DurableState(this.image, this.model)
    for (const [name, pages] of this.written) state.written.set(name, new Set(pages))
    for (const [name, file] of this.nameless) state.nameless.set(name, file.copy())
    const happened = ({ completed, doomed }: { readonly completed: boolean; readonly doomed?: boolean }) =>
      (completed && doomed !== true) || random.chance(0.5)
    state.changes = this.changes.filter(happened).map((change) => ({ ...change, completed: true }))
    state.writes = this.writes.filter(happened).map((write) => ({ ...write, completed: true, doomed: false }))
    return state
  }

  /** What a process sees, whatever of it is durable. */
  visible(): VolumeImage {
    return this.build(this.choices(), (choice) => (choice.kind === 'sector' ? choice.versions.at(-1)! : true))
  }

  step(event: TraceEvent): void {
    if (event.kind === 'submit') this.submitted(event.id, event.operation)
    else if (event.kind === 'complete') this.completed(event.id, event.operation, event.failed)
  }

  private submitted(id: number, operation: DiskOperation): void {
    switch (operation.kind) {
      case 'write':
        for (let at = 0; at < operation.bytes.length; at += PAGE_BYTES) {
          const page = (operation.position + at) / PAGE_BYTES
          const bytes = operation.bytes.subarray(at, at + PAGE_BYTES)
          this.writes.push({ file: operation.file, page, bytes, completed: false, doomed: false, id })
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
  private coveredBy(operation: FlushOperation) {
    const changes = this.changes.filter((change) => {
      if (!change.completed) return false
      const { kind } = change.operation
      if (operation.kind === 'syncDirectory') return kind === 'create' || kind === 'remove'
      return kind === 'allocate' && operation.kind === 'sync' && operation.files.includes(change.operation.file)
    })
    if (operation.kind === 'syncDirectory') return { writes: [], changes }
    const writes = this.writes.filter(({ file, page, completed, doomed }) => {
      if (!completed || doomed) return false
      if (operation.kind === 'sync') return operation.files.includes(file)
      const known = this.written.get(file)?.has(page) === true
      return known && (this.model === 'volume' || operation.files.includes(file))
    })
    return { writes, changes }
  }

  private completed(id: number, operation: DiskOperation, failed: boolean): void {
    for (const write of this.writes) if (write.id === id) write.completed = true
    for (const change of this.changes) if (change.id === id) change.completed = true
    if (operation.kind === 'writeSmall') {
      // Replaced as a whole, and durable at once; what an earlier one left half done is over with it.
      const { file } = operation
      const ofFile = this.changes.filter((one) => one.operation.kind === 'writeSmall' && one.operation.file === file)
      this.settle([], ofFile.slice(0, ofFile.findIndex((change) => change.id === id) + 1))
    }
    const covered = this.covered.get(id)
    if (covered === undefined) return
    this.covered.delete(id)
    if (failed) {
      for (const write of covered.writes) write.doomed = true
      return
    }
    this.settle(
      covered.writes.filter(({ doomed }) => !doomed),
      covered.changes,
    )
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

  /** Everything that is not certain. Sectors whose new content is the old one are no choice, but see `rewritten`. */
  choices(): Choice[] {
    const choices: Choice[] = []
    for (const { operation, completed } of this.changes) choices.push({ kind: 'change', operation, completed })
    for (const writes of this.pendingPages().values()) this.addSectors(choices, writes)
    return choices
  }

  private pendingPages(): Map<string, PendingWrite[]> {
    const pages = new Map<string, PendingWrite[]>()
    for (const write of this.writes) {
      const key = `${write.file}/${write.page}`
      const list = pages.get(key)
      if (list === undefined) pages.set(key, [write])
      else list.push(write)
    }
    return pages
  }

  private durablePage(file: string, page: number): Uint8Array {
    return (this.image.files.get(file) ?? this.nameless.get(file))?.page(page) ?? ZERO_PAGE
  }

  private addSectors(choices: Choice[], writes: readonly PendingWrite[]): void {
    const { file, page } = writes[0]!
    const old = this.durablePage(file, page)
    if (writes.length === 1 && Buffer.compare(writes[0]!.bytes, old) === 0) return
    for (let offset = 0; offset < PAGE_BYTES; offset += SECTOR_BYTES) {
      const before = old.subarray(offset, offset + SECTOR_BYTES)
      const versions = writes
        .map(({ bytes }) => bytes.subarray(offset, offset + SECTOR_BYTES))
        .filter((bytes) => Buffer.compare(bytes, before) !== 0)
      if (versions.length === 0) continue
      choices.push({ kind: 'sector', file, page, offset, versions, completed: writes.at(-1)!.completed })
    }
  }

  /** Sectors under way whose new content is the old one: a power cut may still spoil them. */
  rewritten(): Sector[] {
    const sectors: Sector[] = []
    for (const writes of this.pendingPages().values()) {
      const { file, page } = writes[0]!
      const old = this.durablePage(file, page)
      for (let offset = 0; offset < PAGE_BYTES; offset += SECTOR_BYTES) {
        const before = old.subarray(offset, offset + SECTOR_BYTES)
        const isSame = writes.every(
          ({ bytes }) => Buffer.compare(bytes.subarray(offset, offset + SECTOR_BYTES), before) === 0,
        )
        if (isSame) sectors.push({ file, page, offset })
      }
    }
    return sectors
  }

  /** Pages that were allocated and whose first write is not durable: what the device held before may show in them. */
  neverWritten(): { readonly file: string; readonly page: number }[] {
    const pages: { readonly file: string; readonly page: number }[] = []
    for (const [file, { size }] of this.image.files) {
      const written = this.written.get(file)
      for (let page = 0; page < size / PAGE_BYTES; page++) {
        if (written?.has(page) !== true) pages.push({ file, page })
      }
    }
    return pages
  }

  /**
   * The image that a crash leaves when every choice falls as `choose` says: false is old, true is that a change has
   * happened. Overrides of whole pages lie below the choices, those of sectors above.
   */
  build(
    choices: readonly Choice[],
    choose: (choice: Choice, number: number) => Uint8Array | boolean,
    overrides: readonly Override[] = [],
  ): VolumeImage {
    const image = this.image.copy()
    for (const [i, choice] of choices.entries()) {
      if (choice.kind === 'change' && choose(choice, i) === true) this.apply(choice.operation, image)
    }
    const fresh = new Set<Uint8Array>()
    const put = ({ file: name, page: number, offset }: Sector, bytes: Uint8Array): void => {
      const file = image.files.get(name)
      // What was written behind the end that a file is left with is gone: it reads as zeros when the file grows again.
      if (file === undefined || number * PAGE_BYTES >= file.size) return
      let page = file.page(number)
      if (!fresh.has(page)) {
        page = page.slice()
        fresh.add(page)
        file.setPage(number, page)
      }
      page.set(bytes, offset)
    }
    for (const override of overrides) if (override.bytes.length === PAGE_BYTES) put(override, override.bytes)
    for (const [i, choice] of choices.entries()) {
      if (choice.kind !== 'sector') continue
      const chosen = choose(choice, i)
      if (chosen instanceof Uint8Array) put(choice, chosen)
    }
    for (const override of overrides) if (override.bytes.length < PAGE_BYTES) put(override, override.bytes)
    return image
  }
}
