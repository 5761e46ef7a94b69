// Batches into groups, groups to their places in the log: everything about writing that happens in memory.
import { assert, type BatchHeader, crc32, LOG_PART_BYTES, writeLogPart } from '@millrace/protocol'
import type { Block } from '../environment.js'
import { Fifo } from '../fifo.js'
import type { Extent } from '../memory/append-memory.js'
import { ExtentSource } from '../memory/extent-source.js'
import { Group } from './group.js'
import { ENVELOPE_BYTES, GROUP_KINDS, type GroupKind } from './group-envelope.js'
import { type LogStarts, logStartOf } from './log-start.js'
import type { LogEnd, LogKey } from './log-store.js'
import type { Segment } from './segment.js'
import { SegmentChain } from './segment-chain.js'
import { encodeIndex } from './segment-index.js'
import { maxGroupBytesOf, padded } from './slot-layout.js'
import type { StorageContext } from './storage-context.js'
import type { TermTable } from './term-table.js'
import type { Truncation, Truncations } from './truncations.js'

export interface AppendStamp {
  readonly term: number
  readonly baseOffset: number
  readonly index: number
  readonly appendTime: number
}

/** What recovery found, or an empty log. */
export interface LogBeginning {
  readonly filled: LogEnd
  readonly position: number
  readonly previous: number
  readonly terms: TermTable
  readonly starts: LogStarts
  readonly truncations: Truncations
}

export class GroupAssembly {
  readonly chain: SegmentChain
  readonly filled: { index: number; nextOffset: number; term: number }
  readonly terms: TermTable
  readonly starts: LogStarts
  readonly truncations: Truncations
  /** Groups of batches in memory, oldest first; all that are not flushed, and flushed ones while there is room. */
  readonly tail: Group[] = []
  /** Closed and placed, not submitted. */
  readonly ready = new Fifo<Group>()
  /** The group that takes batches. */
  open: Group | null = null
  /** Bytes of all batches appended. */
  appendedBytes = 0
  /** Closed, but without a slot to go to. */
  private readonly unplaced = new Fifo<Group>()
  private readonly extents: ExtentSource
  private usesUnwritten = false
  /** What the last answer of `hasRoom` was for want of. */
  lacks: 'memory' | 'slot' = 'slot'

  /** @param onSlot called when a slot has come, or the disk has become full or has space again. */
  constructor(
    private readonly context: StorageContext,
    key: LogKey,
    beginning: LogBeginning,
    onSlot: () => void,
  ) {
    this.chain = new SegmentChain(context, key, onSlot)
    this.chain.end = beginning.position
    this.extents = new ExtentSource(context.appendMemory, context.limits.extentBytes)
    this.filled = { ...beginning.filled }
    this.terms = beginning.terms
    this.starts = beginning.starts
    this.truncations = beginning.truncations
  }

  get isEmpty(): boolean {
    return (this.open === null || this.open.batchCount === 0) && this.ready.length === 0 && this.unplaced.length === 0
  }

  get hasUnplaced(): boolean {
    return this.unplaced.length > 0 || (this.open !== null && this.open.segment === null)
  }

  // -------------------------------------------------------------- room

  /** Whether a batch of so many bytes, its log part included, finds memory and a slot now. */
  hasRoom(batchBytes: number, isControl: boolean): boolean {
    if (this.fitsOpen(batchBytes)) return true
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    this.lacks = 'slot'
    // Memory last: to take it and give it back for want of a slot would wake everybody who waits for some.
    if (!this.hasSlotRoom(groupBytes, isControl)) return false
    this.lacks = 'memory'
    return this.extents.ensure(groupBytes, this.open === null ? 0 : this.open.paddedLength)
  }

  /** Whether appends fail until the disk has space again. */
  isFullFor(batchBytes: number, isControl: boolean): boolean {
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    if (!this.context.pool.isFullFor(groupBytes) || this.fitsOpen(batchBytes)) return false
    return !this.hasSlotRoom(groupBytes, isControl)
  }

  private fitsOpen(batchBytes: number): boolean {
    const { open } = this
    return open !== null && open.segment !== null && open.length + batchBytes <= open.capacity
  }

  private hasSlotRoom(groupBytes: number, isControl: boolean): boolean {
    if (this.hasUnplaced) return false
    const end = this.open === null ? this.chain.end : this.open.end
    const { chain } = this
    if (chain.fits(end, groupBytes) || chain.ensureSlot(groupBytes, this.usesUnwritten)) return true
    return isControl && chain.fitsAtWorst(end, groupBytes)
  }

  // -------------------------------------------------------------- batches

  /** @returns false when the checksum does not hold; nothing has changed then. */
  append(source: Block, sourceOffset: number, header: BatchHeader, stamp: AppendStamp, urgent: boolean): boolean {
    const { filled, context } = this
    assert(stamp.index === filled.index + 1, `index ${stamp.index} behind ${filled.index}`)
    assert(stamp.baseOffset === filled.nextOffset, `offset ${stamp.baseOffset}, the log is at ${filled.nextOffset}`)
    assert(stamp.term >= filled.term, `term ${stamp.term} behind ${filled.term}`)
    this.usesUnwritten = !urgent
    const bytes = LOG_PART_BYTES + header.length
    const group = this.groupFor(bytes, header.control)
    const { block } = group.extent
    const at = group.start + group.length
    const clientAt = at + LOG_PART_BYTES
    // The checksum itself is not part of what it covers, so it is not copied but written.
    const { memory } = context.environment
    const checksum = memory.copyWithChecksum(block, clientAt + 4, source, sourceOffset + 4, header.length - 4, 0)
    if (checksum !== header.checksum) return false
    block.view.setUint32(clientAt, checksum, true)
    const { term, baseOffset, index, appendTime } = stamp
    const part = { term, baseOffset, index, appendTime, clientLength: header.length, clientChecksum: checksum }
    writeLogPart(block.bytes, block.view, at, part, crc32)
    const nextOffset = header.control ? baseOffset : baseOffset + header.lastOffsetDelta + 1
    const lastTimestamp = header.control ? 0 : header.lastTimestamp
    group.added(bytes, block.view.getUint32(at, true), nextOffset, lastTimestamp, appendTime)
    if (urgent) group.urgent = true
    this.terms.note(term, index, baseOffset)
    const start = logStartOf(header, block.bytes, clientAt)
    if (start !== null) this.starts.propose(index, start)
    filled.index = index
    filled.nextOffset = nextOffset
    filled.term = term
    this.appendedBytes += bytes
    context.counters.bytesAppended += bytes
    context.counters.copiedBytes += bytes
    return true
  }

  private groupFor(batchBytes: number, isControl: boolean): Group {
    if (this.open !== null && this.open.length + batchBytes <= this.open.capacity) return this.open
    this.closeOpen()
    const groupBytes = padded(ENVELOPE_BYTES + batchBytes)
    const { maxGroupBytes } = this.context.limits
    assert(groupBytes <= maxGroupBytes, `a batch of ${batchBytes} bytes is more than a group holds`)
    const extent = this.extents.take(groupBytes)
    assert(extent !== null, 'an append without room: hasRoom was not asked')
    const capacity = Math.min(extent.freeBytes, maxGroupBytes)
    const { index, nextOffset } = this.filled
    const group = new Group(GROUP_KINDS.batches, extent, extent.usedBytes, capacity, index + 1, nextOffset)
    group.onForget = () => this.forgetOldest(group)
    this.open = group
    this.tail.push(group)
    if (this.unplaced.length === 0) this.place(group, groupBytes, isControl)
    return group
  }

  /** No batch comes to the open group any more: it waits for its turn, or vanishes when nothing came at all. */
  closeOpen(): void {
    const { open } = this
    if (open === null) return
    this.open = null
    if (open.batchCount === 0) {
      this.tail.pop()
      this.context.appendMemory.drop(open.extent)
      return
    }
    open.close()
    open.extent.usedBytes = open.start + open.paddedLength
    if (open.segment === null) this.unplaced.push(open)
    else this.enqueue(open)
  }

  private forgetOldest(group: Group): void {
    if (group.isSuperseded) return
    assert(this.tail[0] === group, 'the tail is forgotten from its oldest group on')
    this.tail.shift()
  }

  // -------------------------------------------------------------- places

  /** Gives a group its place in the log. @returns false while there is no slot for it. */
  private place(group: Group, groupBytes: number, isControl = false): boolean {
    const { chain } = this
    if (!chain.fits(chain.end, groupBytes)) {
      if (chain.ensureSlot(groupBytes, this.usesUnwritten)) this.roll(group.firstIndex, group.firstOffset)
      else if (!isControl || !chain.fitsAtWorst(chain.end, groupBytes)) return false
    }
    group.segment = chain.current!
    group.position = chain.end
    if (group.stage === 'filling') group.capacity = Math.min(group.capacity, chain.remainingBytes)
    return true
  }

  private roll(index: number, offset: number): void {
    const last = this.chain.current
    if (last?.index != null) {
      const content = encodeIndex(last.index)
      // A log that was cut behind the index group of an earlier attempt to roll may have no room for another one.
      const fits = this.chain.end + padded(ENVELOPE_BYTES + content.length) <= last.limit
      if (fits && this.addGroup(GROUP_KINDS.index, content, index, offset, last)) {
        last.indexPosition = this.chain.end - padded(ENVELOPE_BYTES + content.length)
      }
    }
    this.chain.roll(index, offset, this.usesUnwritten)
  }

  /** Places what waits for a slot; what finds none has asked for one. @returns whether anything found its place. */
  placeWaiting(): boolean {
    let placed = false
    let waiting = this.unplaced.peek()
    while (waiting !== undefined) {
      if (!this.place(waiting, waiting.paddedLength)) return placed
      placed = true
      this.unplaced.shift()
      this.enqueue(waiting)
      waiting = this.unplaced.peek()
    }
    const { open } = this
    if (open === null || open.segment !== null) return placed
    return this.place(open, open.paddedLength) || placed
  }

  /** Rolls when the slots the log has are too small for such a group; false when there is no larger one now. */
  makeSlotFor(groupBytes: number): boolean {
    const { chain, context } = this
    if (chain.current === undefined || groupBytes > context.limits.maxGroupBytes) return false
    if (groupBytes <= maxGroupBytesOf(chain.current.slot.byteLength)) return true
    if (!chain.ensureSlot(groupBytes, this.usesUnwritten)) return false
    this.roll(this.filled.index + 1, this.filled.nextOffset)
    return true
  }

  /** Begins a segment for what comes next; false when there is no slot for it now. */
  beginSegment(groupBytes: number): boolean {
    this.closeOpen()
    if (this.hasUnplaced || !this.chain.ensureSlot(groupBytes, this.usesUnwritten)) return false
    this.roll(this.filled.index + 1, this.filled.nextOffset)
    return true
  }

  /** Adds a checkpoint behind everything appended; false when there is no memory or room for it now. */
  addCheckpoint(content: Uint8Array): boolean {
    assert(this.open === null && !this.hasUnplaced, 'a checkpoint stands behind all batches')
    const { chain } = this
    if (!chain.fits(chain.end, padded(ENVELOPE_BYTES + content.length))) return false
    const { index, nextOffset } = this.filled
    return this.addGroup(GROUP_KINDS.checkpoint, content, index + 1, nextOffset, chain.current!)
  }

  /** Groups without batches have memory of their own, since a group of batches may be open in the log's. */
  private addGroup(kind: GroupKind, content: Uint8Array, index: number, offset: number, segment: Segment): boolean {
    const extent = this.context.appendMemory.allocate(padded(ENVELOPE_BYTES + content.length))
    if (extent === null) return false
    this.addGroupIn(extent, kind, content, index, offset, segment)
    return true
  }

  private addGroupIn(
    extent: Extent,
    kind: GroupKind,
    content: Uint8Array,
    index: number,
    offset: number,
    segment: Segment,
    cutFrom = 0,
  ): void {
    const group = new Group(kind, extent, 0, extent.block.byteLength, index, offset)
    group.setContent(content)
    group.cutFrom = cutFrom
    group.segment = segment
    group.position = this.chain.end
    group.close()
    this.enqueue(group)
  }

  /**
   * Cuts off everything behind a batch and puts a checkpoint there, which supersedes it. Everything is flushed.
   * @param contentOf the checkpoint, once everything in memory speaks of the log as it is then.
   * @returns false, and nothing has changed, while there is no memory or no slot for it.
   */
  supersede(end: LogEnd, contentBytes: number, contentOf: () => Uint8Array): boolean {
    const { chain } = this
    this.closeOpen()
    assert(!this.hasUnplaced, 'a suffix is cut off when everything is flushed')
    const groupBytes = padded(ENVELOPE_BYTES + contentBytes)
    if (!chain.fits(chain.end, groupBytes) && !this.beginSegment(groupBytes)) return false
    const extent = this.context.appendMemory.allocate(groupBytes)
    if (extent === null) return false
    const truncation: Truncation = { position: chain.end, lastIndex: end.index, nextOffset: end.nextOffset }
    this.truncations.note(truncation)
    this.terms.truncateTo(end.index)
    this.starts.truncateTo(end.index)
    chain.truncate(truncation)
    for (const group of this.tail.splice(0)) group.isSuperseded = true
    Object.assign(this.filled, end)
    const content = contentOf()
    assert(content.length <= contentBytes, 'the checkpoint is as long as was thought')
    this.addGroupIn(extent, GROUP_KINDS.checkpoint, content, end.index + 1, end.nextOffset, chain.current!)
    return true
  }

  /** The slot has to be one that is written through: it may be all that is left of the log. */
  beginAnew(cutFrom: number, contentBytes: number, contentOf: () => Uint8Array): boolean {
    const { chain, filled } = this
    const groupBytes = padded(ENVELOPE_BYTES + contentBytes)
    if (!chain.ensureSlot(groupBytes, false)) return false
    const extent = this.context.appendMemory.allocate(groupBytes)
    if (extent === null) return false
    const segment = chain.roll(filled.index + 1, filled.nextOffset, false, cutFrom)
    const content = contentOf()
    assert(content.length <= contentBytes, 'the checkpoint is as long as was thought')
    this.addGroupIn(extent, GROUP_KINDS.beginning, content, filled.index + 1, filled.nextOffset, segment, cutFrom)
    return true
  }

  private enqueue(group: Group): void {
    this.chain.placed(group, this.usesUnwritten)
    this.ready.push(group)
  }

  // -------------------------------------------------------------- the end of work

  /** Nothing is under way: the log holds on to no memory but its tail. */
  idle(): void {
    this.extents.idle()
  }

  /** Gives up everything that was not submitted. */
  stop(): void {
    this.chain.giveUp()
    const { open } = this
    this.open = null
    if (open !== null) this.discard(open)
    for (const group of [...this.unplaced.drain(), ...this.ready.drain()]) this.discard(group)
    this.extents.idle()
  }

  discard(group: Group): void {
    const at = this.tail.indexOf(group)
    if (at >= 0) this.tail.splice(at, 1)
    this.context.appendMemory.drop(group.extent)
  }
}
