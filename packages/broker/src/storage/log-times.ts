// Finds the first record at or after a time.
import {
  BATCH_HEADER_BYTES,
  type BatchHeader,
  LOG_PART_BYTES,
  RecordReader,
  readBatchHeader,
  readLogPart,
} from '@millrace/protocol'
import { DiskError } from '../environment.js'
import { SourceDroppedError } from '../memory/page-pool.js'
import type { FrameWindow } from './frame-window.js'
import type { Group } from './group.js'
import { ENVELOPE_BYTES, keyText } from './group-envelope.js'
import type { LogReader } from './log-reader.js'
import { type LogKey, StorageError } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { Segment } from './segment.js'
import { SegmentWalk, WALK_EVERYTHING } from './segment-walk.js'
import type { StorageContext } from './storage-context.js'

export interface TimedOffset {
  readonly offset: number
  /** Of the record at that offset, in milliseconds since 1970. */
  readonly timestamp: number
}

/** What a batch says about a time: where the wanted record is, that it is later, or that the search is over. */
type Answer = TimedOffset | 'later' | 'end'

export class TimeSearch {
  constructor(
    private readonly context: StorageContext,
    private readonly key: LogKey,
    private readonly writer: LogWriter,
    private readonly reader: LogReader,
    private readonly timestamp: number,
    private readonly limitIndex: number,
  ) {}

  /**
   * The first record with a timestamp at or after the wanted one. Of a compressed batch, which only clients decode, the
   * first record stands for all of them. @throws StorageError, ProtocolError OVERLOADED.
   */
  async run(): Promise<TimedOffset | null> {
    let searched = 0
    while (true) {
      const end = this.reader.diskEnd()
      const found = await this.searchDisk(searched, end)
      if (found !== 'later') return found === 'end' ? null : found
      searched = end
      // While the disk was searched the oldest groups may have left memory: those are on disk now.
      if (this.reader.diskEnd() === end) break
    }
    for (const group of this.writer.tail) {
      const found = group.lastTimestamp >= this.timestamp ? this.searchGroup(group) : 'later'
      if (found !== 'later') return found === 'end' ? null : found
    }
    return null
  }

  private async searchDisk(from: number, to: number): Promise<Answer> {
    const { chain, starts } = this.writer
    const first = chain.segments[0]
    if (first !== undefined && first.firstOffset > starts.current.offset) {
      throw new StorageError('DAMAGED', `log ${keyText(this.key)} has nothing before offset ${first.firstOffset}`)
    }
    for (const [i, segment] of [...chain.segments].entries()) {
      const next = chain.segments[i + 1]
      const latest = next?.owner.maxTimestampBefore ?? chain.maxTimestamp
      // The index of the segment, where it has one, is its last group and holds no record.
      const indexPosition = next?.owner.indexPosition ?? 0
      const dataEnd = indexPosition > segment.basePosition ? indexPosition : (segment.endPosition ?? to)
      const end = Math.min(dataEnd, to)
      const isGone = next !== undefined && next.firstIndex <= this.writer.starts.current.index
      if (latest < this.timestamp || end <= from || isGone) continue
      const found = await this.searchSegment(segment, from, end)
      if (found !== 'later') return found
    }
    return 'later'
  }

  private async searchSegment(segment: Segment, from: number, end: number): Promise<Answer> {
    const { frames, limits } = this.context
    const reserved = Math.min(frames.frameCount, Math.ceil(limits.maxGroupBytes / frames.frameBytes) + 3)
    await frames.reserve(reserved)
    let window: FrameWindow | null = null
    try {
      const index = await this.reader.indexOf(segment)
      const entry = index.at(index.findTime(this.timestamp))
      if (entry === undefined || entry.position >= end) return 'later'
      window = this.reader.windowOf(segment)
      return await this.walk(segment, window, Math.max(entry.position, from), end)
    } catch (cause) {
      // The slot was given back meanwhile: everything in it lies below the log start.
      if (cause instanceof SourceDroppedError) return 'later'
      if (!(cause instanceof DiskError)) throw cause
      throw new StorageError('DAMAGED', `log ${keyText(this.key)} cannot be read: ${cause.message}`, { cause })
    } finally {
      window?.releaseAll()
      frames.unreserve(reserved)
    }
  }

  private async walk(segment: Segment, window: FrameWindow, start: number, end: number): Promise<Answer> {
    let answer: Answer = 'later'
    const { truncations } = this.writer
    await new SegmentWalk(window, this.key, segment).run(start, end, {
      ...WALK_EVERYTHING,
      enter: ({ lastTimestamp, position, firstIndex }) =>
        lastTimestamp >= this.timestamp && !truncations.isDead(position, firstIndex),
      visit: ({ part, header, filePosition, byteLength }) => {
        if (truncations.isDead(segment.positionOf(filePosition), part.index)) return true
        answer = this.judge(part.index, part.baseOffset, header, () => {
          const client = new Uint8Array(byteLength - LOG_PART_BYTES)
          window.copy(filePosition + LOG_PART_BYTES, client)
          return client
        })
        return answer === 'later'
      },
    })
    return answer
  }

  private searchGroup(group: Group): Answer {
    const { view, bytes } = group.extent.block
    let at = group.start + ENVELOPE_BYTES
    for (let i = 0; i < group.batchCount; i++) {
      const part = readLogPart(view, at)
      const clientAt = at + LOG_PART_BYTES
      const end = clientAt + part.clientLength
      const answer = this.judge(part.index, part.baseOffset, readBatchHeader(view, clientAt), () =>
        bytes.subarray(clientAt, end),
      )
      if (answer !== 'later') return answer
      at = end
    }
    return 'later'
  }

  private judge(index: number, baseOffset: number, header: BatchHeader, clientPart: () => Uint8Array): Answer {
    if (index > this.limitIndex) return 'end'
    const isGone = index < this.writer.starts.current.index
    if (header.control || isGone || header.lastTimestamp < this.timestamp) return 'later'
    if (header.codec !== 'none' || header.baseTimestamp >= this.timestamp) {
      return { offset: baseOffset, timestamp: header.baseTimestamp }
    }
    const bytes = clientPart()
    const records = new RecordReader(
      bytes,
      BATCH_HEADER_BYTES,
      bytes.length,
      header.recordCount,
      header.lastOffsetDelta,
    )
    while (records.next()) {
      const timestamp = header.baseTimestamp + records.timestampDelta
      if (timestamp >= this.timestamp) return { offset: baseOffset + records.offsetDelta, timestamp }
    }
    return 'later'
  }
}
