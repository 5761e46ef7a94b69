// Pages of slot files in memory: loaded once however many ask, pinned while used, bounded altogether.
import { assert, ProtocolError } from '@millrace/protocol'
import type { Block, Clock, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import type { AtomicOperations } from './atomics.js'
import { Frame, type FrameSource } from './frame.js'
import { FrameClock } from './frame-clock.js'
import { pinsOf } from './frame-state.js'
import { BUSY, CROWDED, frameOf, HIT, LOAD, MISS, outcomeOf, PageTable, WAIT } from './page-table.js'
import { Reservations } from './reservations.js'
import { geometryFor, TableLayout } from './table-layout.js'

/** Frames are owned in turns by the pages of many slots; this one's slot has been given up. */
export class SourceDroppedError extends Error {
  override readonly name = 'SourceDroppedError'
}

export interface PoolStatistics {
  /** Pages asked for that were there or already on their way. */
  readonly hits: number
  /** Pages asked for that had to be read. */
  readonly misses: number
  readonly evictions: number
  /** Pages read ahead that were asked for, and that went unused. */
  readonly readAheadUsed: number
  readonly readAheadWasted: number
  readonly pinnedFrames: number
  /** Frames that hold memory. */
  readonly frames: number
}

const MEMORY_RETRY_MS = 5
const MEMORY_RETRIES = 200
/** How often a page undecided between workers is asked for politely. */
const POLITE_TRIES = 3
/** Pages being read ahead at the same time. */
const MOST_LOADS_AHEAD = 32
/** What share of all frames may hold pages that were read ahead and are not asked for yet: more would evict each other. */
const AHEAD_SHARE = 1 / 4

/** This thread's bit and how the others are woken; `frame` is -1 for a reservation. */
export interface PoolWorker {
  readonly bit: number
  wake(workerBits: number, frame: number): void
}

/** One shard: there is nobody else to wake. */
const ONLY_WORKER: PoolWorker = { bit: 1, wake: () => {} }

/**
 * Readers reserve the frames they may pin before they begin, in the order they come, and a page is loaded only under a
 * reservation. Invariant: pinned frames <= reserved frames <= frames of the pool, so whoever has a reservation finds a
 * frame to evict, and nobody waits for a pin of somebody who waits.
 */
export class PagePool {
  readonly frameCount: number
  private readonly table: PageTable
  private readonly clockHand: FrameClock
  private readonly reservations: Reservations
  private readonly queue = new Fifo<{ readonly frames: number; readonly resolve: () => void }>()
  private readonly blocks: (Block | null)[]
  private readonly loadedFrames: (Frame | null)[]
  private readonly failures = new Map<number, unknown>()
  private readonly waiting = new Map<number, (() => void)[]>()
  private readonly dropped = new WeakSet<FrameSource>()
  private readonly ahead = new Set<Promise<void>>()
  private closed = false
  private hits = 0
  private misses = 0
  private readAheadBegun = 0
  private readAheadUsed = 0

  constructor(
    private readonly memory: Memory,
    private readonly clock: Clock,
    readonly frameBytes: number,
    poolBytes: number,
    atomics: AtomicOperations = Atomics,
    private readonly worker: PoolWorker = ONLY_WORKER,
  ) {
    this.frameCount = Math.floor(poolBytes / frameBytes)
    const layout = new TableLayout(geometryFor(this.frameCount))
    const words = new Int32Array(new SharedArrayBuffer(layout.byteLength))
    layout.begin(words)
    this.table = new PageTable(layout, words, atomics)
    this.clockHand = new FrameClock(this.table)
    this.reservations = new Reservations(this.frameCount, words, atomics)
    this.blocks = new Array<Block | null>(this.frameCount).fill(null)
    this.loadedFrames = new Array<Frame | null>(this.frameCount).fill(null)
  }

  get statistics(): PoolStatistics {
    let pinnedFrames = 0
    let frames = 0
    for (let frame = 0; frame < this.frameCount; frame++) {
      if (pinsOf(this.table.stateOf(frame)) > 0) pinnedFrames++
      if (this.blocks[frame] !== null) frames++
    }
    const { hits, misses, readAheadUsed } = this
    const { evictions, wasted } = this.clockHand
    return { hits, misses, evictions, readAheadUsed, readAheadWasted: wasted, pinnedFrames, frames }
  }

  // -------------------------------------------------------------- reservations

  /** Resolves when `frames` more may be pinned. Never more than `frameCount` in one call. */
  reserve(frames: number): Promise<void> {
    assert(frames > 0 && frames <= this.frameCount, `a reservation of ${frames} frames of ${this.frameCount}`)
    if (this.queue.length === 0 && this.reservations.take(frames)) return Promise.resolve()
    return new Promise((resolve) => {
      this.queue.push({ frames, resolve })
      this.reservations.listen(this.worker.bit)
      this.admit()
    })
  }

  unreserve(frames: number): void {
    this.wakeOthers(this.reservations.giveBack(frames), -1)
    this.admit()
  }

  private admit(): void {
    for (let next = this.queue.peek(); next !== undefined; next = this.queue.peek()) {
      if (!this.reservations.take(next.frames)) {
        this.reservations.listen(this.worker.bit)
        if (!this.reservations.take(next.frames)) return
      }
      this.queue.shift()
      next.resolve()
    }
  }

  // -------------------------------------------------------------- pages

  /**
   * A pinned frame with a page, whose first `neededBytes` are there unless the file is shorter. The caller has reserved it.
   * @param readableBytes of the file may be read now; beyond, it is being written.
   * @throws DiskError; SourceDroppedError; ProtocolError OVERLOADED when the environment has no memory for seconds.
   */
  async pin(source: FrameSource, page: number, neededBytes: number, readableBytes: number): Promise<Frame> {
    const { slotId, generation } = source
    for (let tries = 0; tries < MEMORY_RETRIES; tries++) {
      this.assertHeld(source)
      let result = this.table.find(slotId, generation, page)
      if (outcomeOf(result) === MISS) result = this.begin(source, page, tries >= POLITE_TRIES, false)
      const index = frameOf(result)
      switch (outcomeOf(result)) {
        case LOAD:
          this.misses++
          return this.load(source, page, index, readableBytes)
        case WAIT:
        case HIT: {
          if (outcomeOf(result) === WAIT) await this.loadedByOther(index)
          const frame = this.use(index)
          if (frame !== null && frame.validBytes >= neededBytes) return frame
          // Failed, or loaded when the file was shorter: whoever still has a pin keeps it, and it is loaded anew.
          this.table.doom(index, slotId, generation)
          this.unpinIndex(index)
          break
        }
        default:
          await this.pause(outcomeOf(result) === BUSY)
      }
    }
    throw new ProtocolError('OVERLOADED', 'no memory is left to read with')
  }

  unpin(frame: Frame): void {
    assert(this.loadedFrames[frame.index] === frame, 'a pin is given back while its page is there')
    this.unpinIndex(frame.index)
  }

  /**
   * Begins to read pages that will be asked for; as many as can be had without taking anything from readers.
   * @param readableBytes of the file may be read now; a page that is not whole yet is left out.
   */
  readAhead(source: FrameSource, firstPage: number, pages: number, readableBytes: number): void {
    const most = Math.floor(this.frameCount * AHEAD_SHARE)
    const end = Math.min(firstPage + pages, Math.ceil(source.byteLength / this.frameBytes))
    for (let page = firstPage; page < end; page++) {
      if (this.closed || this.dropped.has(source) || this.ahead.size >= MOST_LOADS_AHEAD) return
      if (this.readAheadBegun - this.readAheadUsed - this.clockHand.wasted >= most) return
      if (Math.min((page + 1) * this.frameBytes, source.byteLength) > readableBytes) return
      if (this.table.has(source.slotId, source.generation, page)) continue
      if (this.queue.length > 0 || !this.reservations.take(1)) return
      const loading = this.loadAhead(source, page, readableBytes).finally(() => {
        this.ahead.delete(loading)
        this.unreserve(1)
      })
      this.ahead.add(loading)
    }
  }

  /** Frees one frame nobody uses; false when there is none. */
  reclaim(): boolean {
    const frame = this.clockHand.claim(true)
    if (frame < 0) return false
    this.release(frame)
    return true
  }

  /**
   * The slot changes hands: from now on none of its pages is found or loaded. Resolves when the last pin of them is gone,
   * and so no read of its file is under way.
   */
  async drop(source: FrameSource): Promise<void> {
    this.dropped.add(source)
    const { slotId, generation } = source
    const pinned: number[] = []
    for (let frame = 0; frame < this.frameCount; frame++) {
      const doomed = this.table.doom(frame, slotId, generation)
      if (doomed === 'owned') this.release(frame)
      else if (doomed === 'pinned') pinned.push(frame)
    }
    for (const frame of pinned) await this.until(frame, () => !this.table.isDoomed(frame, slotId, generation))
  }

  /** Ends read-ahead and frees what nobody uses; frames still pinned go when their reads are released. */
  async close(): Promise<void> {
    this.closed = true
    await Promise.all(this.ahead)
    this.reclaimAll()
  }

  /** Another worker has loaded or freed a frame, or given back a reservation (-1). */
  woken(frame: number): void {
    if (frame < 0) {
      this.admit()
      return
    }
    const waiting = this.waiting.get(frame)
    this.waiting.delete(frame)
    for (const resolve of waiting ?? []) resolve()
  }

  // -------------------------------------------------------------- loading

  /** Offers a frame for a page that was not found; BUSY or CROWDED when there is none to offer now. */
  private begin(source: FrameSource, page: number, insists: boolean, ahead: boolean): number {
    const { slotId, generation } = source
    const frame = this.claimWithBlock()
    if (frame < 0) return CROWDED
    let result = this.table.publish(frame, slotId, generation, page, insists)
    if (outcomeOf(result) === CROWDED) result = this.table.adopt(frame)
    if (outcomeOf(result) === LOAD) this.clockHand.noteLoad(frame, slotId, generation, page, ahead)
    else this.release(frame)
    return result
  }

  /** A claimed frame with memory; -1 when there is none now. */
  private claimWithBlock(): number {
    const frame = this.clockHand.claim(false)
    if (frame < 0) return -1
    this.loadedFrames[frame] = null
    if (this.blocks[frame] !== null) return frame
    this.blocks[frame] = this.memory.allocate(this.frameBytes)
    if (this.blocks[frame] !== null) return frame
    this.release(frame)
    const evicted = this.clockHand.claim(true)
    if (evicted >= 0) this.loadedFrames[evicted] = null
    return evicted
  }

  /** Reads a page into the frame whose loader the caller is; it has a pin of it. */
  private async load(source: FrameSource, page: number, index: number, readableBytes: number): Promise<Frame> {
    const block = this.blocks[index]!
    const start = page * this.frameBytes
    const length = Math.min(this.frameBytes, source.byteLength - start)
    try {
      const bytes = await source.file.read(start, block, 0, length)
      const frame = new Frame(index, block, Math.max(0, Math.min(bytes, readableBytes - start)))
      this.loadedFrames[index] = frame
      this.wake(this.table.loaded(index, frame.validBytes), index)
      return frame
    } catch (cause) {
      this.failures.set(index, cause)
      this.wake(this.table.failed(index), index)
      this.unpinIndex(index)
      throw cause
    }
  }

  private async loadAhead(source: FrameSource, page: number, readableBytes: number): Promise<void> {
    const result = this.begin(source, page, false, true)
    const index = frameOf(result)
    if (outcomeOf(result) === LOAD) {
      this.readAheadBegun++
      const loaded = await this.load(source, page, index, readableBytes).catch(() => {
        // Whoever comes to need the page meets the error himself.
        return null
      })
      if (loaded !== null) this.unpin(loaded)
    } else if (outcomeOf(result) === HIT || outcomeOf(result) === WAIT) this.unpinIndex(index)
  }

  /** Waits for the loader of a frame the caller has a pin of. @throws what the loader met; the pin is given back then. */
  private async loadedByOther(index: number): Promise<void> {
    await this.until(index, () => !this.table.isLoading(index))
    if (!this.failures.has(index)) return
    const cause = this.failures.get(index)
    this.unpinIndex(index)
    throw cause
  }

  /** A page found: null when its loading failed. */
  private use(index: number): Frame | null {
    if (this.table.validBytesOf(index) < 0) return null
    this.hits++
    if (this.clockHand.touch(index)) this.readAheadUsed++
    return this.loadedFrames[index]!
  }

  // -------------------------------------------------------------- frames and waiting

  private unpinIndex(index: number): void {
    if (this.table.unpin(index)) this.release(index)
    else if (this.closed) this.reclaimAll()
  }

  /** Gives the memory of an owned frame back before anybody else can own it. */
  private release(index: number): void {
    this.clockHand.forget(index)
    this.loadedFrames[index] = null
    this.failures.delete(index)
    const block = this.blocks[index] ?? null
    this.blocks[index] = null
    if (block !== null) this.memory.release(block)
    this.wake(this.table.free(index), index)
  }

  private reclaimAll(): void {
    while (this.reclaim()) {
      // Until none is left.
    }
  }

  /** Listens before it looks, each time: see `PageTable.listen`. */
  private async until(frame: number, isOver: () => boolean): Promise<void> {
    while (true) {
      this.table.listen(frame, this.worker.bit)
      if (isOver()) return
      await new Promise<void>((resolve) => {
        const waiting = this.waiting.get(frame)
        if (waiting === undefined) this.waiting.set(frame, [resolve])
        else waiting.push(resolve)
      })
    }
  }

  private wake(workerBits: number, frame: number): void {
    if ((workerBits & this.worker.bit) !== 0) this.woken(frame)
    this.wakeOthers(workerBits, frame)
  }

  private wakeOthers(workerBits: number, frame: number): void {
    const others = workerBits & ~this.worker.bit
    if (others !== 0) this.worker.wake(others, frame)
  }

  private pause(brief: boolean): Promise<void> {
    return new Promise((resolve) => {
      if (brief) this.clock.defer(resolve)
      else this.clock.timer(MEMORY_RETRY_MS, resolve)
    })
  }

  private assertHeld(source: FrameSource): void {
    if (this.dropped.has(source)) throw new SourceDroppedError(`slot ${source.slotId} has been given up`)
  }
}
