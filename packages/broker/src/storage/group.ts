// One group of a log in memory: what will be, is being or has been written at once.
import { crc32 } from '@millrace/protocol'
import type { Extent, RetainedGroup } from '../memory/append-memory.js'
import { ENVELOPE_BYTES, type GroupKind, writeEnvelope } from './group-envelope.js'
import type { LogKey } from './log-store.js'
import type { Segment } from './segment.js'
import { padded } from './slot-layout.js'

/** `filling` takes batches, `closed` waits for its turn, `submitted` is being written. */
export type GroupStage = 'filling' | 'closed' | 'submitted' | 'written'

const word = new Uint8Array(4)
const wordView = new DataView(word.buffer)

/** The content checksum of batches, continued by the checksum of one more log part; 0 to begin. */
export function addToContentChecksum(checksum: number, logPartChecksum: number): number {
  wordView.setUint32(0, logPartChecksum, true)
  return crc32(word, checksum)
}

export class Group implements RetainedGroup {
  stage: GroupStage = 'filling'
  /** Where it goes; null while the log waits for a slot. */
  segment: Segment | null = null
  /** In the log; meaningful once `segment` is set. */
  position = 0
  /** Envelope and content so far. */
  length = ENVELOPE_BYTES
  batchCount = 0
  /** Whether somebody waits for it to be flushed. */
  urgent = false
  lastTimestamp = 0
  lastIndex: number
  nextOffset: number
  lastAppendTime = 0
  /** Its batches were cut off, or may have been: nothing reads it from memory any more. */
  isSuperseded = false
  /** Of a beginning, see the envelope. */
  cutFrom = 0
  /** Bytes of log parts and client parts. */
  appendedBytes = 0
  private contentChecksum = 0
  /** Called when its memory is taken back after it was flushed. */
  onForget: () => void = () => {}

  /**
   * @param start where it begins in the extent, a multiple of 4,096.
   * @param firstIndex index of its first batch, or of the next one in the log when it holds none.
   */
  constructor(
    readonly kind: GroupKind,
    readonly extent: Extent,
    readonly start: number,
    /** It may not become longer than this. */
    public capacity: number,
    readonly firstIndex: number,
    readonly firstOffset: number,
  ) {
    this.lastIndex = firstIndex - 1
    this.nextOffset = firstOffset
  }

  get paddedLength(): number {
    return padded(this.length)
  }

  /** Position behind the group. */
  get end(): number {
    return this.position + this.paddedLength
  }

  /** Takes note of a batch that was written behind what is there; `logPartChecksum` is its log part's own. */
  added(
    byteLength: number,
    logPartChecksum: number,
    nextOffset: number,
    lastTimestamp: number,
    appendTime: number,
  ): void {
    this.contentChecksum = addToContentChecksum(this.contentChecksum, logPartChecksum)
    this.length += byteLength
    this.appendedBytes += byteLength
    this.batchCount++
    this.lastIndex++
    this.nextOffset = nextOffset
    if (lastTimestamp > this.lastTimestamp) this.lastTimestamp = lastTimestamp
    if (appendTime > this.lastAppendTime) this.lastAppendTime = appendTime
  }

  /** Fills a group that holds no batches. */
  setContent(content: Uint8Array): void {
    this.extent.block.bytes.set(content, this.start + ENVELOPE_BYTES)
    this.contentChecksum = crc32(content, 0)
    this.length = ENVELOPE_BYTES + content.length
  }

  forget(): void {
    this.onForget()
  }

  /** No batch follows: the rest of its last block becomes zeros. */
  close(): void {
    this.stage = 'closed'
    this.extent.block.bytes.fill(0, this.start + this.length, this.start + this.paddedLength)
  }

  /** Writes the envelope; from now on nothing changes any more. Returns the checksum the next group refers to. */
  seal(key: LogKey, session: number, durableTo: number, previous: number): number {
    const { block } = this.extent
    const { slot, generation } = this.segment!
    const envelope = {
      kind: this.kind,
      key,
      slotId: slot.id,
      generation,
      session,
      position: this.position,
      durableTo,
      length: this.length,
      batchCount: this.batchCount,
      contentChecksum: this.contentChecksum,
      previous,
      firstIndex: this.firstIndex,
      firstOffset: this.firstOffset,
      lastTimestamp: this.lastTimestamp,
      cutFrom: this.cutFrom,
    }
    this.stage = 'submitted'
    return writeEnvelope(block.bytes, block.view, this.start, envelope, crc32)
  }
}
