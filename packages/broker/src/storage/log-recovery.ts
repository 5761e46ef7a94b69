// Finds out where a log ends: walks its groups from the last checkpoint, and tells a torn end from damage.
import { BLOCK_BYTES, DiskError } from '../environment.js'
import { READ_RETRIES_PER_LOG } from '../limits.js'
import { type Checkpoint, checkpointOf } from './checkpoint.js'
import { checkpointIn, checkpointOnTheWay, type ReadCheckpoint } from './checkpoint-search.js'
import { checkGroup } from './group-check.js'
import { ENVELOPE_BYTES, GROUP_KINDS, type GroupEnvelope, isCheckpoint } from './group-envelope.js'
import { type FoundGroup, GroupSource } from './group-source.js'
import { beginOf, layOut } from './log-layout.js'
import { LogStarts, logStartOf } from './log-start.js'
import type { LogKey, LogState } from './log-store.js'
import { endOffsetOf } from './read-selection.js'
import type { Damage, RecoveredDamage, RecoveredLog, VolumeCondition } from './recovered-log.js'
import type { Segment } from './segment.js'
import { dropDeadEntries } from './segment-index.js'
import { indexIntervalOf, padded } from './slot-layout.js'
import type { OwnedSlot } from './slot-scan.js'
import { SparseIndex } from './sparse-index.js'
import type { StorageContext } from './storage-context.js'
import { TermTable } from './term-table.js'
import { Truncations } from './truncations.js'

export async function recoverLog(
  context: StorageContext,
  key: LogKey,
  slots: readonly OwnedSlot[],
  state: LogState,
  volume: VolumeCondition,
): Promise<RecoveredLog> {
  const { memory, clock } = context.environment
  const source = new GroupSource(memory, clock, key, READ_RETRIES_PER_LOG)
  try {
    return await new LogRecovery(context, source, slots, state, volume).run()
  } finally {
    source.close()
  }
}

interface FoundCheckpoint extends ReadCheckpoint {
  readonly segmentNumber: number
}

class LogRecovery {
  private segments: Segment[] = []
  private former: readonly Segment[] = []
  private torn: readonly Segment[] = []
  /** Number of the segment with which the log began anew last. */
  private beginning = 0
  private watermark = 0
  private limit = 0
  private current = 0
  private position = 0
  private previous = 0
  private session = 0
  private index = 0
  private nextOffset = 0
  private term = 0
  private terms = new TermTable()
  private maxTimestamp = 0
  private lastAppendTime = 0
  private starts = new LogStarts()
  private truncations = new Truncations()
  private checkpointEnd = 0
  private damage: Damage | null = null
  /** Number of the first segment that all behind it follow without a gap. */
  private wholeFrom = 0
  /** Given back, as the log start proves; the headers that said so are lost. */
  private leftBehind: readonly Segment[] = []
  private tornAt: number | null = null

  constructor(
    private readonly context: StorageContext,
    private readonly source: GroupSource,
    private readonly slots: readonly OwnedSlot[],
    private readonly state: LogState,
    private readonly volume: VolumeCondition,
  ) {}

  async run(): Promise<RecoveredLog> {
    await this.collect()
    if (this.segments.length === 0) return this.nothing()
    const found = (await this.findCheckpoint()) ?? (await this.checkpointOnTheWay())
    if (found !== null) this.beginAt(found)
    else if (!this.hasBegunAnew && (await this.hasTornStart())) return this.nothing()
    else this.beginAtStart()
    const walked = this.segments[this.current]!
    this.checkOlderSegments()
    await this.walk()
    this.checkStart()
    if (this.damage === null) await this.judgeEnd()
    this.leaveOutDead()
    return this.result(this.current + 1, this.segments.indexOf(walked))
  }

  /** Nothing that the log is known by was flushed: it begins anew. */
  private nothing(): RecoveredLog {
    this.tornAt = 0
    this.state.restoreState(null)
    return this.result(0, 0)
  }

  private result(count: number, firstWalked: number): RecoveredLog {
    return {
      segments: this.segments.slice(0, count),
      surplus: this.damage === null ? [...this.leftBehind, ...this.segments.slice(count), ...this.torn] : [],
      former: this.damage === null ? this.former : [],
      firstWalked,
      filled: { index: this.index, nextOffset: this.nextOffset, term: this.term },
      position: this.position,
      previous: this.previous,
      terms: this.terms,
      maxTimestamp: this.maxTimestamp,
      lastAppendTime: this.lastAppendTime,
      starts: this.starts,
      truncations: this.truncations,
      checkpointEnd: this.checkpointEnd,
      replayedBytes: this.source.bytesRead,
      tornAt: this.tornAt,
      damage: this.damageFound(),
    }
  }

  private damageFound(): RecoveredDamage | null {
    const { damage, limit } = this
    return damage === null ? null : { ...damage, limit, isAtEnd: damage.position === this.position }
  }

  private async collect(): Promise<void> {
    const layout = await layOut(this.slots, this.source, this.context.environment.memory)
    const all = [...layout.segments, ...layout.former, ...layout.torn]
    this.limit = Math.max(0, ...all.map(({ limit }) => limit))
    this.segments = layout.segments
    this.former = layout.former
    this.torn = layout.torn
    this.watermark = layout.watermark
    this.beginning = layout.beginning
    this.current = layout.beginning
  }

  private get hasBegunAnew(): boolean {
    const segment = this.segments[this.beginning]
    return segment !== undefined && segment.owner.cutFrom !== null
  }

  /** The last checkpoint that can be read. A header naming none, or a lost one, only makes the walk longer. */
  private async findCheckpoint(): Promise<FoundCheckpoint | null> {
    for (let i = this.segments.length - 1; i >= this.beginning; i--) {
      const segment = this.segments[i]!
      const { copies } = this.slots.find(({ slot }) => slot === segment.slot)!
      for (const { checkpointPosition } of copies) {
        if (checkpointPosition === null || checkpointPosition < segment.basePosition) continue
        const found = await this.checkpointAt(segment, checkpointPosition)
        if (found !== null) return { segmentNumber: i, ...found }
      }
    }
    return null
  }

  private async checkpointAt(segment: Segment, position: number): Promise<ReadCheckpoint | null> {
    const group = await this.groupAt(segment, position)
    if (group === null || group === 'unreadable') return null
    return checkpointIn(segment, group, this.context.environment.memory)
  }

  /** A log without its first groups cannot be walked from the first one there is: only a checkpoint knows what it was. */
  private async checkpointOnTheWay(): Promise<FoundCheckpoint | null> {
    if (this.hasBegunAnew || this.segments[0]!.basePosition === 0) return null
    return checkpointOnTheWay(this.segments, this.source, this.context.environment.memory)
  }

  private beginAt({ segmentNumber, checkpoint, envelope }: FoundCheckpoint): void {
    const segment = this.segments[segmentNumber]!
    this.current = segmentNumber
    segment.checkpointPosition = envelope.position
    segment.oldestCheckpointIndex = checkpoint.index
    this.position = envelope.position + padded(envelope.length)
    this.checkpointEnd = this.position
    this.previous = envelope.checksum
    this.session = envelope.session
    this.adopt(segment, checkpoint)
  }

  /** The log is as a checkpoint says, whatever was known of it before. */
  private adopt(segment: Segment, checkpoint: Checkpoint): void {
    segment.index = checkpoint.slotIndex
    this.index = checkpoint.index
    this.nextOffset = checkpoint.nextOffset
    this.term = checkpoint.term
    this.terms = checkpoint.terms
    this.maxTimestamp = checkpoint.maxTimestamp
    this.lastAppendTime = checkpoint.lastAppendTime
    this.starts = checkpoint.starts
    this.truncations = checkpoint.truncations
    this.state.restoreState(checkpoint.state)
  }

  /**
   * Whether the first segments are missing because a power failure took them before anything was flushed: the log ends at
   * its very start then, and that is judged like any other end.
   */
  private async hasTornStart(): Promise<boolean> {
    const { basePosition } = this.segments[0]!
    if (basePosition === 0) return false
    await this.judgeEnd()
    if (this.damage === null && !this.volume.clean && !this.volume.refusesSlots) return true
    const reason = `everything before position ${basePosition} is missing, and no checkpoint behind can be read`
    this.damage = { position: 0, reason }
    return false
  }

  private beginAtStart(): void {
    const first = this.segments[this.beginning]!
    const { basePosition, baseIndex, baseOffset, previous, maxTimestampBefore, lastAppendTimeBefore } = first.owner
    first.index = newIndex(first)
    this.position = basePosition
    this.previous = previous
    this.index = baseIndex - 1
    this.nextOffset = baseOffset
    this.maxTimestamp = maxTimestampBefore
    this.lastAppendTime = lastAppendTimeBefore
    this.state.restoreState(null)
  }

  /** Segments before the checkpoint are not read; that none is missing shows in their headers. */
  private checkOlderSegments(): void {
    for (let i = 0; i < this.current; i++) {
      const segment = this.segments[i]!
      const end = beginOf(this.segments[i + 1]!)
      if (end <= segment.basePosition || end > segment.limit) this.wholeFrom = i + 1
    }
  }

  /**
   * Slots are given back, the oldest first, only once the log start that allows it is flushed, so it was met by now.
   */
  private checkStart(): void {
    for (const truncation of this.truncations.all()) for (const segment of this.segments) segment.truncate(truncation)
    if (this.segments[0]!.basePosition === 0 && this.wholeFrom === 0) return
    // What a segment begins with may be lower than in the one before, where a truncation is forgotten that cut both.
    for (let i = this.wholeFrom; i <= this.current; i++) {
      if (!this.starts.cover(this.segments[i]!.firstIndex)) continue
      this.leftBehind = this.segments.splice(0, i)
      this.current -= i
      return
    }
    const first = this.segments[0]!
    if (this.wholeFrom === 0) {
      this.damage ??= { position: 0, reason: `the first segments, before position ${first.basePosition}, are missing` }
      return
    }
    const before = this.segments[this.wholeFrom - 1]!
    this.damage ??= { position: before.basePosition, reason: `the segment behind ${before.slot.file.name} is missing` }
  }

  /** Indexes made while the walk came by say nothing of what was cut off afterwards. */
  private leaveOutDead(): void {
    for (const { index } of this.segments) if (index !== null) dropDeadEntries(index, this.truncations)
    this.terms.forgetBefore(this.starts.current.index)
  }

  private async walk(): Promise<void> {
    while (true) {
      const segment = this.segments[this.current]!
      const next = this.segments[this.current + 1]
      if (next !== undefined && next.basePosition === this.position && next.owner.previous === this.previous) {
        this.current++
        next.index = newIndex(next)
        // Begun for a truncation its header speaks of the log without the suffix, which counts once the truncation is met.
        next.firstIndex = this.index + 1
        next.firstOffset = this.nextOffset
        // A header read off the first group does not know this; any other says the same.
        const { maxTimestamp: maxTimestampBefore, lastAppendTime: lastAppendTimeBefore } = this
        next.owner = { ...next.owner, maxTimestampBefore, lastAppendTimeBefore }
        continue
      }
      const group = await this.groupAt(segment, this.position)
      if (group === 'unreadable') {
        this.damage ??= { position: this.position, reason: 'the disk reports an error when it is read' }
        return
      }
      if (group === null || !this.accept(segment, group)) return
    }
  }

  private async groupAt(segment: Segment, position: number): Promise<FoundGroup | null | 'unreadable'> {
    try {
      return await this.source.groupAt(segment, position)
    } catch (cause) {
      if (cause instanceof DiskError && cause.code === 'INPUT_OUTPUT') return 'unreadable'
      throw cause
    }
  }

  /** Takes a group in if it is whole and the next one of the log. One that follows another group is stale. */
  private accept(segment: Segment, { block, at, envelope }: FoundGroup): boolean {
    if (envelope.previous !== this.previous) return false
    const batches = checkGroup(block, at, envelope, this.context.environment.memory)
    if (batches === null) {
      this.tornAt = this.position
      return false
    }
    if (envelope.firstIndex <= this.index || envelope.kind === GROUP_KINDS.beginning) {
      if (!this.supersede(segment, block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length), envelope)) return false
    } else if (envelope.firstIndex !== this.index + 1 || envelope.firstOffset !== this.nextOffset) return false
    for (const { part, header, clientAt } of batches) {
      this.terms.note(part.term, part.index, part.baseOffset)
      const start = logStartOf(header, block.bytes, clientAt)
      if (start !== null) this.starts.propose(part.index, start)
      this.lastAppendTime = Math.max(this.lastAppendTime, part.appendTime)
      this.index = part.index
      this.term = part.term
      this.nextOffset = endOffsetOf(part.baseOffset, header)
      this.state.replay(part, header, block.bytes, clientAt)
    }
    if (envelope.kind === GROUP_KINDS.batches) segment.index?.note(envelope)
    this.maxTimestamp = Math.max(this.maxTimestamp, envelope.lastTimestamp)
    this.previous = envelope.checksum
    this.session = envelope.session
    this.position += padded(envelope.length)
    if (isCheckpoint(envelope)) this.checkpointEnd = this.position
    return true
  }

  /**
   * A group whose first index is not above the last one supersedes the suffix. It is a checkpoint always, and says how
   * the log is without that suffix, the owner's state included. So does one with which the log begins anew.
   */
  private supersede(segment: Segment, content: Uint8Array, envelope: GroupEnvelope): boolean {
    if (!isCheckpoint(envelope)) return false
    const checkpoint = checkpointOf(segment, content, envelope)
    if (checkpoint === null) return false
    this.adopt(segment, checkpoint)
    return true
  }

  /** No group of the log stands at its end: was one torn there by a crash, or has a flushed one been damaged? */
  private async judgeEnd(): Promise<void> {
    const end = this.position
    if (this.watermark > end) {
      const reason = `the log was flushed up to ${this.watermark} and ends at ${end}`
      this.damage = { position: end, reason }
      return
    }
    if (this.volume.clean) return
    for (const segment of this.segments.slice(this.current)) {
      await this.lookAhead(segment, end)
      if (this.damage !== null) return
    }
    if (this.current + 1 < this.segments.length || this.torn.length > 0) this.tornAt = end
  }

  /**
   * A group that was submitted when the end was flushed proves damage. Nothing is written farther ahead of what is
   * flushed than the header says, so what was written much later need not be looked at.
   */
  private async lookAhead(segment: Segment, end: number): Promise<void> {
    const from = Math.max(end, segment.basePosition)
    const to = Math.min(segment.limit, Math.max(end + segment.owner.lookAheadBytes, from + BLOCK_BYTES))
    try {
      await this.source.search(segment, from, to, ({ position, durableTo, session }) => {
        if (session === this.session) this.tornAt = end
        if (durableTo <= end) return false
        const reason = `the group at ${position} was written when the log was flushed up to ${durableTo}`
        this.damage = { position: end, reason }
        return true
      })
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
      this.damage = { position: end, reason: 'the disk reports an error behind the end of the log' }
    }
  }
}

function newIndex(segment: Segment): SparseIndex {
  return new SparseIndex(indexIntervalOf(segment.slot.byteLength))
}
