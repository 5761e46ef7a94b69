// One thread of the stress test: reads pages of a shared table as fast as it can and checks what is in them.
import { parentPort, workerData } from 'node:worker_threads'
import { SeededRandom } from '@millrace/protocol'
import type { AtomicOperations } from '#src/memory/atomics.js'
import { FrameClock } from '#src/memory/frame-clock.js'
import { LOADING, statusOf } from '#src/memory/frame-state.js'
import { BUSY, CROWDED, frameOf, HIT, LOAD, MISS, outcomeOf, PageTable, WAIT } from '#src/memory/page-table.js'
import { type TableGeometry, TableLayout } from '#src/memory/table-layout.js'
import { torn } from './planted.js'

export interface StressOptions {
  readonly id: number
  readonly workers: number
  readonly seed: number
  readonly durationMs: number
  readonly geometry: TableGeometry
  readonly pages: number
  readonly shared: SharedArrayBuffer
  /** Plants a compare-and-swap that is none. */
  readonly torn: boolean
}

export interface StressReport {
  readonly reads: number
  readonly loads: number
  readonly waits: number
  readonly drops: number
  readonly evictions: number
  /** The first rule seen broken. */
  readonly broken: string | null
}

/** Words of content in each frame: all of them name slot, generation and page. */
export const CONTENT_WORDS = 256
export const KEPT_SLOT = 1
/** Given up again and again, under one generation after the other. */
export const DROPPED_SLOT = 2
/** Long after whoever loads a page has got processor time again. */
const LOST_WAKE_UP_MS = 1_000
const STUCK_MS = 15_000

/** Where things stand behind the table in the shared memory, in words. */
export function stressPlaces(layout: TableLayout, workers: number, pages: number) {
  const contentAt = layout.byteLength / 4
  const wakeAt = contentAt + layout.geometry.frames * CONTENT_WORDS
  const generationAt = wakeAt + workers
  const loadingAt = generationAt + 1
  return { contentAt, wakeAt, generationAt, loadingAt, words: loadingAt + pages }
}

class StressReader {
  private readonly words: Int32Array
  private readonly table: PageTable
  private readonly clock: FrameClock
  private readonly places: ReturnType<typeof stressPlaces>
  private readonly random: SeededRandom
  private reads = 0
  private loads = 0
  private waits = 0
  private drops = 0

  constructor(private readonly options: StressOptions) {
    const layout = new TableLayout(options.geometry)
    this.places = stressPlaces(layout, options.workers, options.pages)
    this.words = new Int32Array(options.shared)
    const atomics: AtomicOperations = options.torn ? torn(Atomics) : Atomics
    this.table = new PageTable(layout, this.words, atomics)
    this.clock = new FrameClock(this.table)
    this.random = new SeededRandom(options.seed)
  }

  run(): StressReport {
    const until = performance.now() + this.options.durationMs
    let broken: string | null = null
    try {
      while (performance.now() < until) for (let i = 0; i < 50; i++) this.act()
    } catch (cause) {
      broken = cause instanceof Error ? cause.message : String(cause)
    }
    const { reads, loads, waits, drops } = this
    return { reads, loads, waits, drops, evictions: this.clock.evictions, broken }
  }

  private act(): void {
    if (this.options.id === 0 && this.random.oneIn(400)) {
      this.drop()
      return
    }
    // Some pages are asked for much more often than others.
    const page = Math.floor(this.random.fraction() ** 3 * this.options.pages)
    const slot = this.random.oneIn(3) ? DROPPED_SLOT : KEPT_SLOT
    this.read(slot, slot === KEPT_SLOT ? 1 : Atomics.load(this.words, this.places.generationAt), page)
  }

  private read(slot: number, generation: number, page: number): void {
    for (let tries = 0; ; tries++) {
      let result = this.table.find(slot, generation, page)
      if (outcomeOf(result) === MISS) result = this.offer(slot, generation, page, tries > 2)
      const frame = frameOf(result)
      switch (outcomeOf(result)) {
        case LOAD:
          this.load(frame, slot, generation, page)
          break
        case WAIT:
          this.wait(frame)
          break
        case HIT:
          this.clock.touch(frame)
          break
        default:
          continue
      }
      this.check(frame, slot, generation, page)
      if (this.table.unpin(frame)) this.free(frame)
      this.reads++
      return
    }
  }

  private offer(slot: number, generation: number, page: number, insists: boolean): number {
    const frame = this.clock.claim(false)
    if (frame < 0) return BUSY
    const result = this.table.publish(frame, slot, generation, page, insists)
    if (outcomeOf(result) === CROWDED) return this.table.adopt(frame)
    if (outcomeOf(result) === LOAD) this.clock.noteLoad(frame, slot, generation, page, false)
    else this.free(frame)
    return result
  }

  private load(frame: number, slot: number, generation: number, page: number): void {
    const counter = this.places.loadingAt + page
    // A page that found its window full is loaded by each who asks, for himself.
    const isCounted = slot === KEPT_SLOT && statusOf(this.table.stateOf(frame)) === LOADING
    if (isCounted && Atomics.add(this.words, counter, 1) !== 0) throw new Error(`page ${page} has two loaders`)
    const start = this.places.contentAt + frame * CONTENT_WORDS
    // Plain stores: that they are seen is the state word's doing.
    for (let i = 0; i < CONTENT_WORDS; i++) this.words[start + i] = contentOf(slot, generation, page)
    if (isCounted) Atomics.sub(this.words, counter, 1)
    this.loads++
    this.wake(this.table.loaded(frame, page))
  }

  private wait(frame: number): void {
    this.waits++
    const at = this.places.wakeAt + this.options.id
    const since = performance.now()
    while (true) {
      const before = Atomics.load(this.words, at)
      this.table.listen(frame, 1 << this.options.id)
      if (!this.table.isLoading(frame)) return
      const woken = Atomics.wait(this.words, at, before, LOST_WAKE_UP_MS)
      if (woken === 'timed-out' && !this.table.isLoading(frame)) throw new Error('a wake-up was lost')
      if (performance.now() - since > STUCK_MS)
        throw new Error(`frame ${frame} is not loaded: ${this.table.stateOf(frame)}`)
    }
  }

  private check(frame: number, slot: number, generation: number, page: number): void {
    if (this.table.validBytesOf(frame) !== page) throw new Error(`page ${page} has the length of another`)
    const start = this.places.contentAt + frame * CONTENT_WORDS
    const expected = contentOf(slot, generation, page)
    for (let i = 0; i < CONTENT_WORDS; i++) {
      if (this.words[start + i] !== expected) throw new Error(`page ${page} holds the content of another`)
    }
  }

  private drop(): void {
    this.drops++
    const generation = Atomics.add(this.words, this.places.generationAt, 1)
    for (let frame = 0; frame < this.options.geometry.frames; frame++) {
      if (this.table.doom(frame, DROPPED_SLOT, generation) === 'owned') this.free(frame)
    }
  }

  private free(frame: number): void {
    this.clock.forget(frame)
    this.wake(this.table.free(frame))
  }

  private wake(bits: number): void {
    for (let worker = 0; worker < this.options.workers; worker++) {
      if ((bits & (1 << worker)) === 0) continue
      Atomics.add(this.words, this.places.wakeAt + worker, 1)
      Atomics.notify(this.words, this.places.wakeAt + worker)
    }
  }
}

function contentOf(slot: number, generation: number, page: number): number {
  return (slot << 28) ^ (generation << 12) ^ page
}

parentPort?.postMessage(new StressReader(workerData as StressOptions).run())
