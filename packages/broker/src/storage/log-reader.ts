// The reading side of one log: the tail from memory, everything older through the page pool.
import { DiskError } from '../environment.js'
import { READ_AHEAD_BYTES } from '../limits.js'
import { SourceDroppedError } from '../memory/page-pool.js'
import { FollowedCursors } from '../memory/read-ahead.js'
import { DamageFinder } from './damage-finder.js'
import { FrameWindow } from './frame-window.js'
import type { Group } from './group.js'
import { keyText } from './group-envelope.js'
import { type LogKey, type LogRead, StorageError, type TermRun } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { ReadPlace } from './read-place.js'
import { endOffsetOf, groupOfPlace, type Piece, ReadSelection } from './read-selection.js'
import type { Segment } from './segment.js'
import { indexOf } from './segment-index.js'
import { SegmentWalk } from './segment-walk.js'
import type { SparseIndex } from './sparse-index.js'
import type { StorageContext } from './storage-context.js'

const SMALLEST_READ_BYTES = 64 * 1024

function emptyRead(nextOffset: number): LogRead {
  const nothing = { byteLength: 0, batchCount: 0, decodedBytes: 0, firstIndex: 0, lastIndex: 0 }
  return { pieces: [], ...nothing, nextOffset, release: () => {} }
}

function readOf(selection: ReadSelection, pieces: readonly Piece[], give: () => void): LogRead {
  const { byteLength, batchCount, decodedBytes, firstIndex, lastIndex, nextOffset } = selection
  let released = false
  const release = (): void => {
    if (released) throw new Error('a read is released once')
    released = true
    give()
  }
  return { pieces, byteLength, batchCount, decodedBytes, firstIndex, lastIndex, nextOffset, release }
}

/** A stretch of the slot file, from and to. */
type Run = [number, number]

export class LogReader {
  /** Those that follow the log by offset, and those by index. */
  private readonly cursors = {
    offset: new FollowedCursors(READ_AHEAD_BYTES),
    index: new FollowedCursors(READ_AHEAD_BYTES),
  }
  private readonly damage: DamageFinder

  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    private readonly writer: LogWriter,
  ) {
    this.damage = new DamageFinder(context, key, this)
  }

  async read(offset: number, maxBytes: number, limitIndex: number): Promise<LogRead> {
    const { filled } = this.writer
    const place = { by: 'offset', at: offset } as const
    this.assertKept(place)
    if (offset >= filled.nextOffset || limitIndex <= 0) return emptyRead(offset)
    const selection = new ReadSelection(place, maxBytes, Math.min(limitIndex, filled.index))
    return this.isInTail(place) ? this.readTail(selection) : this.readPastDamage(selection)
  }

  termAtIndex(index: number): number {
    const { filled, terms, starts } = this.writer
    const { index: firstIndex, previousTerm } = starts.current
    if (index === firstIndex - 1) return previousTerm
    return index < firstIndex || index > filled.index ? 0 : terms.termAtIndex(index)
  }

  termRuns(): readonly TermRun[] {
    const { filled, terms, starts } = this.writer
    const { index, offset } = starts.current
    return filled.index < index ? [] : terms.runsFrom(index, offset)
  }

  /** Batches from an index on, at once when they are in memory. A failure is always a promise that rejects. */
  readFrom(index: number, maxBytes: number): LogRead | Promise<LogRead> {
    const { filled, starts } = this.writer
    const place = { by: 'index', at: index } as const
    if (index < starts.current.index) return Promise.reject(this.outOfRange(place))
    if (index > filled.index) return emptyRead(filled.nextOffset)
    const selection = new ReadSelection(place, maxBytes, filled.index)
    return this.isInTail(place) ? this.readTail(selection) : this.readExactly(selection)
  }

  /** What was cut off while the disk was read has to be read anew: the index may belong to another batch by now. */
  private async readExactly(wanted: ReadSelection): Promise<LogRead> {
    const { truncations } = this.writer
    const { changes } = truncations
    const read = await this.readPastDamage(wanted)
    if (truncations.changes === changes) {
      if (read.batchCount > 0) return read
      throw new StorageError('DAMAGED', `batch ${wanted.place.at} of log ${keyText(this.key)} is not found`)
    }
    read.release()
    return this.readFrom(wanted.place.at, wanted.maxBytes)
  }

  /** Damage before the place keeps nobody from what stands behind it. */
  private async readPastDamage(wanted: ReadSelection): Promise<LogRead> {
    while (true) {
      const { damagedGroups } = this.context.counters
      try {
        return await this.readDisk(wanted)
      } catch (cause) {
        if (!isDamaged(cause)) throw cause
        const refusal = await this.damage.explain(cause, wanted.place, damagedGroups)
        if (refusal === null) continue
        this.note(refusal, wanted.place)
        throw refusal
      }
    }
  }

  /** @throws StorageError OUT_OF_RANGE below the log start, which may have moved since somebody looked. */
  private assertKept(place: ReadPlace): void {
    if (place.at < this.writer.starts.current[place.by]) throw this.outOfRange(place)
  }

  private outOfRange({ by, at }: ReadPlace): StorageError {
    const start = this.writer.starts.current[by]
    return new StorageError('OUT_OF_RANGE', `${by} ${at} is no longer kept, the log begins at ${start}`)
  }

  isInTail({ by, at }: ReadPlace): boolean {
    const oldest = this.writer.tail[0]
    return oldest !== undefined && at >= (by === 'offset' ? oldest.firstOffset : oldest.firstIndex)
  }

  private readTail(selection: ReadSelection): LogRead {
    const { tail } = this.writer
    const { appendMemory } = this.context
    const pieces: Piece[] = []
    const held: Group[] = []
    for (let i = groupOfPlace(tail, selection.place); i < tail.length; i++) {
      const group = tail[i]!
      const { piece, ended } = selection.takeFrom(group)
      if (piece !== null) {
        appendMemory.hold(group.extent)
        held.push(group)
        pieces.push(piece)
      }
      if (ended) break
    }
    if (pieces.length === 0) return this.nothingFor(selection)
    return readOf(selection, pieces, () => {
      for (const group of held) appendMemory.drop(group.extent)
    })
  }

  /**
   * Position up to which the log can be read from disk. Memory begins there or before, but for groups without batches:
   * those are not kept, and what is under way of them is not on disk yet.
   */
  diskEnd(): number {
    return this.writer.flushedPosition
  }

  private async readDisk(wanted: ReadSelection): Promise<LogRead> {
    const { frameBytes, frameCount } = this.context.frames
    const most = Math.floor(frameCount / 4) * frameBytes
    let bytes = Math.max(Math.min(wanted.maxBytes, most), SMALLEST_READ_BYTES)
    while (true) {
      // What so many bytes touch at worst, wherever they begin, and one page that is loaded again while it is held.
      const reserved = Math.min(frameCount, Math.ceil(bytes / frameBytes) + 3)
      const selection = new ReadSelection(wanted.place, Math.min(wanted.maxBytes, bytes), wanted.limitIndex)
      await this.context.frames.reserve(reserved)
      const result = await this.readReserved(selection, reserved)
      if (result === 'next') return this.again(wanted)
      if (typeof result !== 'number') return result
      bytes = result
    }
  }

  private async again({ place, maxBytes, limitIndex }: ReadSelection): Promise<LogRead> {
    return place.by === 'offset' ? this.read(place.at, maxBytes, limitIndex) : this.readFrom(place.at, maxBytes)
  }

  private nothingFor({ place }: ReadSelection): LogRead {
    return emptyRead(place.by === 'offset' ? place.at : this.writer.filled.nextOffset)
  }

  /**
   * Reads with a reservation, which it or its result gives back. The bytes of the first batch when that needs a larger
   * one; 'next' when the segment ends before the offset.
   */
  private async readReserved(selection: ReadSelection, reserved: number): Promise<LogRead | number | 'next'> {
    const { frames } = this.context
    let window: FrameWindow | null = null
    let segment: Segment | null = null
    let kept = reserved
    const release = (): void => {
      window?.releaseAll()
      if (kept > 0) frames.unreserve(kept)
      kept = 0
    }
    try {
      segment = this.segmentOf(selection.place)
      // It stays with the segment, where the walk begins from it.
      await this.indexOf(segment)
      window = this.windowOf(segment)
      const selected = await this.select(segment, window, selection, reserved)
      if (typeof selected === 'number') {
        release()
        return selected
      }
      if (selected.length > 0) {
        const open = window
        kept = open.pinnedFrames
        frames.unreserve(reserved - kept)
        const pieces = selected.flatMap(([from, to]) => open.pieces(from, to))
        this.readAhead(segment, selected.at(-1)![1], selection)
        return readOf(selection, pieces, release)
      }
      release()
      return this.goesOn(segment, selection.place) ? 'next' : this.nothingFor(selection)
    } catch (cause) {
      release()
      if (cause instanceof SourceDroppedError) return this.afterDrop(segment!, cause)
      throw cause instanceof DiskError ? this.unreadable(cause) : cause
    }
  }

  /** The log's start has moved on, or the log has been dropped. @throws StorageError CLOSED for the latter. */
  private afterDrop(segment: Segment, cause: SourceDroppedError): 'next' {
    if (!this.writer.chain.segments.includes(segment)) return 'next'
    throw new StorageError('CLOSED', `log ${keyText(this.key)} has given up its segments`, { cause })
  }

  /** Reads on behind a read of a cursor that follows the log, into the next segment if there is one. */
  private readAhead(segment: Segment, from: number, selection: ReadSelection): void {
    const { place, nextOffset, lastIndex, byteLength } = selection
    const goesOnAt = place.by === 'offset' ? nextOffset : lastIndex + 1
    const bytes = this.cursors[place.by].advance(place.at, goesOnAt, byteLength)
    if (bytes === 0) return
    const { frames } = this.context
    const end = from + bytes
    const first = Math.floor(from / frames.frameBytes)
    const isFinished = segment.endPosition !== null && segment.endPosition <= this.diskEnd()
    const dataEnd = segment.filePositionOf(this.endOf(segment))
    const last = Math.ceil(Math.min(end, dataEnd) / frames.frameBytes)
    // What stands behind the end of a finished segment is read along: a frame is either whole or has to be read again.
    frames.readAhead(segment.source, first, last - first, isFinished ? segment.source.byteLength : dataEnd)
    const next = isFinished && end > dataEnd ? this.segmentBehind(segment) : undefined
    if (next === undefined) return
    const nextEnd = next.filePositionOf(this.endOf(next))
    const pages = Math.ceil(Math.min(end - dataEnd, nextEnd) / frames.frameBytes)
    frames.readAhead(next.source, 0, pages, nextEnd)
  }

  /** Whether a place, not found in a segment, is now to be found elsewhere: the tail was flushed meanwhile. */
  private goesOn(segment: Segment, place: ReadPlace): boolean {
    return this.isInTail(place) || this.segmentOf(place) !== segment
  }

  /** The segment that holds a place of the log. @throws StorageError DAMAGED when it is missing. */
  segmentOf(place: ReadPlace): Segment {
    const { segments } = this.writer.chain
    const field = place.by === 'offset' ? 'firstOffset' : 'firstIndex'
    let low = 0
    let high = segments.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (segments[middle]![field] <= place.at) low = middle + 1
      else high = middle
    }
    const found = segments[low - 1]
    this.assertKept(place)
    if (found === undefined) {
      throw new StorageError('DAMAGED', `log ${keyText(this.key)} has no segment for ${place.by} ${place.at}`)
    }
    return found
  }

  /** The sparse index of a segment. The caller has a reservation. @throws StorageError, DiskError, ProtocolError. */
  async indexOf(segment: Segment): Promise<SparseIndex> {
    return indexOf(this.context, this.key, segment, this.segmentBehind(segment), this.writer.truncations)
  }

  windowOf(segment: Segment): FrameWindow {
    const { frames, environment } = this.context
    return new FrameWindow(frames, environment.memory, segment.source, segment.filePositionOf(this.endOf(segment)))
  }

  segmentBehind(segment: Segment): Segment | undefined {
    const { segments } = this.writer.chain
    return segments[segments.indexOf(segment) + 1]
  }

  endOf(segment: Segment): number {
    return Math.min(segment.endPosition ?? Number.POSITIVE_INFINITY, this.diskEnd())
  }

  /** The runs of whole batches selected, pinned; or the bytes of a first batch that needs a larger reservation. */
  private async select(
    segment: Segment,
    window: FrameWindow,
    selection: ReadSelection,
    reserved: number,
  ): Promise<Run[] | number> {
    const { frameBytes } = this.context.frames
    const start = this.damage.startOf(segment, selection.place)
    const end = this.endOf(segment)
    const from = segment.filePositionOf(start)
    // Loaded at once instead of one by one; all of it is inside the reservation.
    const ahead = Math.min(segment.filePositionOf(end), from + Math.max(selection.maxBytes, frameBytes))
    await window.pin(from, ahead).catch((cause: unknown) => {
      // What is not needed may be damaged; what is, is asked for again.
      if (!isDamage(cause)) throw cause
    })
    const walk = new SegmentWalk(window, this.key, segment)
    const { truncations } = this.writer
    const runs: Run[] = []
    let tooLarge = 0
    const visited = walk.run(start, end, {
      enter: ({ position, firstIndex }) => !truncations.isDead(position, firstIndex),
      mayLoad: (byteLength) => selection.mayTake(byteLength),
      mayPass: (index) => this.damage.mayPass(segment, index, selection.place),
      mayPin: (pinFrom, pinTo) => {
        const needed = FrameWindow.framesOf(frameBytes, Math.min(walk.keepFrom, pinFrom), pinTo)
        if (needed < reserved) return true
        if (runs.length === 0) tooLarge = pinTo - pinFrom
        return false
      },
      visit: ({ part, header, filePosition, byteLength }) => {
        if (truncations.isDead(segment.positionOf(filePosition), part.index)) return true
        const endOffset = endOffsetOf(part.baseOffset, header)
        const offered = selection.offer(part.index, endOffset, byteLength, header.decodedBytes)
        if (offered === 'taken') {
          walk.keepFrom = Math.min(walk.keepFrom, filePosition)
          addToRuns(runs, filePosition, byteLength)
        }
        return offered !== 'end'
      },
    })
    await visited.catch((cause: unknown) => {
      // What stands before damage is whole, and sent; the next read meets the damage at its own offset.
      if (runs.length === 0 || !isDamage(cause)) throw cause
    })
    if (tooLarge > 0) return tooLarge
    const last = runs.at(-1)
    if (last !== undefined) window.releaseAfter(last[1])
    return runs
  }

  /** The reader is told; whoever looks after the disk has to hear of it too. */
  private note(failure: StorageError, { by, at }: ReadPlace): void {
    this.context.counters.failedReads++
    this.context.environment.log.error({ ...this.key, [by]: at, cause: failure.cause }, failure.message)
  }

  private unreadable(cause: DiskError): StorageError {
    return new StorageError('DAMAGED', `log ${keyText(this.key)} cannot be read: ${cause.message}`, { cause })
  }
}

function isDamage(cause: unknown): boolean {
  return cause instanceof DiskError ? cause.code === 'INPUT_OUTPUT' : isDamaged(cause)
}

function isDamaged(cause: unknown): cause is StorageError {
  return cause instanceof StorageError && cause.code === 'DAMAGED'
}

/** Batches of one group touch; between groups stands an envelope. */
function addToRuns(runs: Run[], from: number, length: number): void {
  const last = runs.at(-1)
  if (last !== undefined && last[1] === from) last[1] = from + length
  else runs.push([from, from + length])
}
