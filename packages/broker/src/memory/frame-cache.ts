// Blocks of one size read from slot files: loaded once however many ask, pinned while used, bounded altogether.
import { assert, ProtocolError } from '@millrace/protocol'
import type { Block, Clock, DiskFile, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import { ByteRanges } from './byte-ranges.js'

/** A file while somebody owns it: frames of an earlier owner are never found under a later one. */
export interface FrameSource {
  readonly file: DiskFile
  readonly byteLength: number
  readonly frames: Map<number, Frame>
}

export class Frame {
  pins = 0
  /** Asked for again some time after it was loaded: it outlives frames that a scan touched once. */
  wasHit = false
  /** Bytes from the start that stood in the file when it was loaded. */
  validBytes = 0
  loading: Promise<void> | null = null
  /** Replaced or dropped: freed when the last pin goes. */
  detached = false
  /** Bytes whose checksums held since it was loaded. */
  readonly verified = new ByteRanges()

  constructor(
    readonly source: FrameSource,
    readonly number: number,
    readonly block: Block,
    /** Loads of the cache before this one. */
    readonly loadNumber: number,
  ) {}
}

export interface FrameCounters {
  cacheHits: number
  cacheMisses: number
}

const MEMORY_RETRY_MS = 5
const MEMORY_RETRIES = 200
/** A reader that goes through a frame in several steps has asked once: so many loads later it counts as again. */
const SAME_VISIT_LOADS = 8

/**
 * Readers reserve the frames they may pin before they begin, in the order they come, and a frame is loaded only by a
 * reader with a reservation. Invariant: pinned frames <= reserved frames <= frames of the cache, so whoever has a
 * reservation always finds a frame to evict, and nobody waits for a pin of somebody who waits.
 */
export class FrameCache {
  readonly frameCount: number
  private reservedCount = 0
  private loadedCount = 0
  private readonly waiting = new Fifo<{ readonly frames: number; readonly resolve: () => void }>()
  /** Unpinned frames, least recently used first: touched once, and touched again. */
  private readonly once = new Set<Frame>()
  private readonly again = new Set<Frame>()

  constructor(
    private readonly memory: Memory,
    private readonly clock: Clock,
    readonly frameBytes: number,
    cacheBytes: number,
    private readonly counters: FrameCounters,
  ) {
    this.frameCount = Math.floor(cacheBytes / frameBytes)
  }

  /** Resolves when `frames` more may be pinned. Never more than `frameCount` in one call. */
  reserve(frames: number): Promise<void> {
    assert(frames > 0 && frames <= this.frameCount, `a reservation of ${frames} frames of ${this.frameCount}`)
    if (this.waiting.length === 0 && this.reservedCount + frames <= this.frameCount) {
      this.reservedCount += frames
      return Promise.resolve()
    }
    return new Promise((resolve) => this.waiting.push({ frames, resolve }))
  }

  unreserve(frames: number): void {
    this.reservedCount -= frames
    assert(this.reservedCount >= 0, 'what is given back was reserved')
    let next = this.waiting.peek()
    while (next !== undefined && this.reservedCount + next.frames <= this.frameCount) {
      this.waiting.shift()
      this.reservedCount += next.frames
      next.resolve()
      next = this.waiting.peek()
    }
  }

  /**
   * A pinned frame whose first `neededBytes` are there.
   * @param readableBytes of the file may be read now; beyond, it is being written.
   * @throws DiskError; ProtocolError OVERLOADED when the environment has no memory for seconds.
   */
  async pin(source: FrameSource, number: number, neededBytes: number, readableBytes: number): Promise<Frame> {
    while (true) {
      const found = source.frames.get(number)
      if (found === undefined || (found.loading === null && found.validBytes < neededBytes)) {
        if (found !== undefined) this.detach(found)
        const loaded = await this.load(source, number, readableBytes)
        if (loaded !== null) return loaded
        continue
      }
      this.take(found)
      if (found.loading === null) {
        this.counters.cacheHits++
        if (this.counters.cacheMisses - found.loadNumber > SAME_VISIT_LOADS) found.wasHit = true
        return found
      }
      this.counters.cacheHits++
      try {
        await found.loading
      } catch (cause) {
        this.unpin(found)
        throw cause
      }
      if (found.validBytes >= neededBytes) return found
      this.unpin(found)
    }
  }

  unpin(frame: Frame): void {
    assert(frame.pins > 0, 'a pin is given back once')
    frame.pins--
    if (frame.pins > 0) return
    if (frame.detached) this.free(frame)
    else if (frame.wasHit) {
      this.again.add(frame)
      // Readers that come back keep at most three quarters, so that new frames can prove themselves.
      if (this.again.size > (this.frameCount * 3) / 4) {
        const oldest = first(this.again)
        this.again.delete(oldest)
        oldest.wasHit = false
        this.once.add(oldest)
      }
    } else this.once.add(frame)
  }

  /** Frees one frame nobody uses; false when there is none. */
  reclaim(): boolean {
    const victims = this.once.size > 0 ? this.once : this.again
    if (victims.size === 0) return false
    this.detach(first(victims))
    return true
  }

  /** The slot changes hands: none of its frames is found any more. */
  drop(source: FrameSource): void {
    for (const frame of [...source.frames.values()]) this.detach(frame)
  }

  private async load(source: FrameSource, number: number, readableBytes: number): Promise<Frame | null> {
    const block = await this.blockFor(source, number)
    if (block === null) return null
    if (source.frames.has(number)) {
      this.loadedCount--
      this.memory.release(block)
      return null
    }
    const frame = new Frame(source, number, block, this.counters.cacheMisses++)
    frame.pins = 1
    source.frames.set(number, frame)
    const start = number * this.frameBytes
    const length = Math.min(this.frameBytes, source.byteLength - start)
    frame.loading = source.file.read(start, block, 0, length).then((bytes) => {
      frame.validBytes = Math.max(0, Math.min(bytes, readableBytes - start))
      frame.loading = null
    })
    try {
      await frame.loading
    } catch (cause) {
      frame.loading = null
      this.detach(frame)
      this.unpin(frame)
      throw cause
    }
    return frame
  }

  /** Memory for a frame, or null when somebody else has begun to load it meanwhile. */
  private async blockFor(source: FrameSource, number: number): Promise<Block | null> {
    while (this.loadedCount >= this.frameCount) assert(this.reclaim(), 'whoever reserved finds a frame to evict')
    this.loadedCount++
    for (let tries = 0; tries < MEMORY_RETRIES; tries++) {
      const block = this.memory.allocate(this.frameBytes)
      if (block !== null) return block
      if (this.reclaim()) continue
      await new Promise<void>((resolve) => this.clock.timer(MEMORY_RETRY_MS, resolve))
      if (source.frames.has(number)) {
        this.loadedCount--
        return null
      }
    }
    this.loadedCount--
    throw new ProtocolError('OVERLOADED', 'no memory is left to read with')
  }

  private take(frame: Frame): void {
    if (frame.pins === 0) {
      this.once.delete(frame)
      this.again.delete(frame)
    }
    frame.pins++
  }

  private detach(frame: Frame): void {
    if (frame.detached) return
    frame.detached = true
    if (frame.source.frames.get(frame.number) === frame) frame.source.frames.delete(frame.number)
    this.once.delete(frame)
    this.again.delete(frame)
    if (frame.pins === 0) this.free(frame)
  }

  private free(frame: Frame): void {
    this.loadedCount--
    this.memory.release(frame.block)
  }
}

function first<T>(set: ReadonlySet<T>): T {
  for (const item of set) return item
  throw new Error('an empty set has no first item')
}
