// One log from its first byte to its last, as a report.
import { producerName } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import { checkpointOf } from '../storage/checkpoint.js'
import { ENVELOPE_BYTES, GROUP_KINDS, isCheckpoint } from '../storage/group-envelope.js'
import { GroupSource } from '../storage/group-source.js'
import { layOut } from '../storage/log-layout.js'
import { LogStarts, logStartOf } from '../storage/log-start.js'
import type { Segment } from '../storage/segment.js'
import { padded } from '../storage/slot-layout.js'
import { withoutGivenBack } from './given-back.js'
import type { InspectedLog } from './inspected-volume.js'
import { firstIndexOf, LogWalk, type WalkedGroup } from './log-walk.js'
import { type Unpack, whyRecordsFail } from './record-check.js'
import type { BatchRow, DamagedRange, GroupRow, LogReport, LogStartReport, UndecodableBatch } from './reports.js'

/** Rows of details wanted, from the group or batch that holds an offset on. */
export interface DetailWish {
  readonly groups: boolean
  readonly batches: boolean
  readonly fromOffset: number
  readonly maxRows: number
}

export interface InspectionWorld {
  readonly memory: Memory
  readonly clock: Clock
  readonly unpack: Unpack
  /** So many bytes more have been looked at. */
  progressed(bytes: number): void
}

const KIND_NAMES = {
  [GROUP_KINDS.batches]: 'batches',
  [GROUP_KINDS.checkpoint]: 'checkpoint',
  [GROUP_KINDS.index]: 'index',
  [GROUP_KINDS.beginning]: 'checkpoint',
} as const
/** Batches that cannot be decoded are told one by one up to this many. */
const MAX_UNDECODABLE = 100

export class LogInspection {
  private starts = new LogStarts()
  private batches = 0
  private records = 0
  private batchBytes = 0
  private groupBytes = 0
  private maxTimestamp = 0
  private readonly groups = { batches: 0, checkpoints: 0, indexes: 0 }
  private readonly checkpoints: number[] = []
  private readonly undecodable: UndecodableBatch[] = []
  private readonly groupRows: GroupRow[] = []
  private readonly batchRows: BatchRow[] = []
  private rowsLeftOut = 0

  /** @param onGroup sees every group that holds. */
  constructor(
    private readonly world: InspectionWorld,
    private readonly log: InspectedLog,
    private readonly wish: DetailWish | null,
    private readonly onGroup: (group: WalkedGroup) => void = () => {},
  ) {}

  async run(): Promise<Omit<LogReport, 'topic'>> {
    const { memory, clock } = this.world
    const { key } = this.log
    const source = new GroupSource(memory, clock, key)
    try {
      const { segments: found, watermark } = await layOut(this.log.slots, source, memory)
      if (found.length === 0) return this.nothing([])
      const segments = await withoutGivenBack(found, watermark, source, memory)
      const walk = new LogWalk(source, memory, segments, watermark, (group) => this.visit(group))
      const end = await walk.run()
      if (this.isTornStart(segments[0]!, walk, watermark)) {
        return this.nothing(segments.map((segment) => this.segmentReport(segment, walk)))
      }
      const damage = [...this.missingAtStart(segments, walk), ...walk.damage]
      const isDamaged = damage.length > 0 || this.undecodable.length > 0
      const details = this.wish === null ? {} : this.details(this.wish)
      return {
        ...key,
        state: isDamaged ? 'damaged' : end.kind,
        logStart: this.logStart(),
        nextOffset: walk.nextOffset,
        lastIndex: walk.lastIndex,
        lastTerm: walk.lastTerm,
        maxTimestamp: this.maxTimestamp,
        batches: this.batches,
        records: this.records,
        groups: this.groups,
        groupBytes: this.groupBytes,
        batchBytes: this.batchBytes,
        checkpoints: this.checkpoints,
        segments: segments.map((segment) => this.segmentReport(segment, walk)),
        deadRanges: walk.deadRanges,
        damage,
        undecodable: this.undecodable,
        end,
        ...details,
      }
    } finally {
      source.close()
    }
  }

  private details({ groups, batches }: DetailWish) {
    return {
      ...(groups ? { groupRows: this.groupRows } : {}),
      ...(batches ? { batchRows: this.batchRows } : {}),
      rowsLeftOut: this.rowsLeftOut,
    }
  }

  private logStart(): LogStartReport {
    const { index, offset } = this.starts.current
    return { index, offset }
  }

  /** Slots are given back only below a log start that is flushed, so it was met by now. */
  private missingAtStart(segments: readonly Segment[], walk: LogWalk): readonly DamagedRange[] {
    const { basePosition, baseIndex, baseOffset } = segments[0]!.owner
    if (basePosition === 0 || segments.some((segment) => this.starts.cover(firstIndexOf(segment, walk)))) return []
    const { index, offset } = this.starts.current
    return [
      {
        slot: '(missing)',
        position: 0,
        endPosition: basePosition,
        filePosition: 0,
        reason: 'the first segments are missing',
        firstOffset: offset,
        nextOffset: baseOffset,
        firstIndex: index,
        nextIndex: baseIndex,
      },
    ]
  }

  /** The first segments are missing, and nothing on disk proves that anything was ever flushed: recovery begins anew. */
  private isTornStart({ basePosition }: Segment, { durableTo, damage }: LogWalk, watermark: number): boolean {
    const isProven = watermark > 0 || durableTo > 0 || damage.length > 0
    return basePosition > 0 && !isProven
  }

  private nothing(segments: LogReport['segments']): Omit<LogReport, 'topic'> {
    const reason = 'the first segments are missing; they were never flushed'
    return {
      ...this.log.key,
      state: 'torn',
      logStart: { index: 1, offset: 0 },
      nextOffset: 0,
      lastIndex: 0,
      lastTerm: 0,
      maxTimestamp: 0,
      batches: 0,
      records: 0,
      groups: { batches: 0, checkpoints: 0, indexes: 0 },
      groupBytes: 0,
      batchBytes: 0,
      checkpoints: [],
      segments,
      deadRanges: [],
      damage: [],
      undecodable: [],
      end: { kind: 'torn', position: 0, reason },
    }
  }

  private segmentReport(segment: Segment, { groupsOf }: LogWalk) {
    const { slot, generation, basePosition, checkpointPosition, owner } = segment
    const noted = groupsOf.get(segment)
    return {
      slot: slot.file.name,
      slotBytes: slot.byteLength,
      generation,
      basePosition,
      endPosition: noted?.endPosition ?? basePosition,
      baseIndex: owner.baseIndex,
      baseOffset: owner.baseOffset,
      groups: noted?.groups ?? 0,
      checkpointPosition,
    }
  }

  private visit(group: WalkedGroup): void {
    const { envelope, batches } = group
    this.groupBytes += padded(envelope.length)
    this.maxTimestamp = Math.max(this.maxTimestamp, envelope.lastTimestamp)
    if (isCheckpoint(envelope)) this.checkpoint(group)
    else if (envelope.kind === GROUP_KINDS.index) this.groups.indexes++
    else this.groups.batches++
    this.noteGroupRow(group)
    for (const batch of batches) {
      const { part, header, clientAt } = batch
      this.batches++
      this.batchBytes += part.clientLength
      if (!header.control) this.records += header.recordCount
      const start = logStartOf(header, group.block.bytes, clientAt)
      if (start !== null) this.starts.propose(part.index, start)
      const reason = whyRecordsFail(group.block, clientAt, header, this.world.unpack)
      if (reason !== null && this.undecodable.length < MAX_UNDECODABLE) {
        this.undecodable.push({ index: part.index, baseOffset: part.baseOffset, reason })
      }
      this.noteBatchRow(group, batch)
    }
    this.world.progressed(padded(envelope.length))
    this.onGroup(group)
  }

  private checkpoint({ block, at, envelope, segment }: WalkedGroup): void {
    this.groups.checkpoints++
    this.checkpoints.push(envelope.position)
    const found = checkpointOf(segment, block.bytes.slice(at + ENVELOPE_BYTES, at + envelope.length), envelope)
    if (found === null) {
      const { firstIndex: index, firstOffset: baseOffset } = envelope
      this.undecodable.push({ index, baseOffset, reason: 'the checkpoint there says nothing that makes sense' })
    } else this.starts = found.starts
  }

  private noteGroupRow({ segment, envelope, batches }: WalkedGroup): void {
    const { wish } = this
    const last = batches.at(-1)
    const reaches = last === undefined ? envelope.firstOffset : last.part.baseOffset + last.header.lastOffsetDelta
    if (wish === null || !wish.groups || reaches < wish.fromOffset) return
    if (this.groupRows.length >= wish.maxRows) {
      this.rowsLeftOut++
      return
    }
    const { position, length, batchCount, firstIndex, firstOffset, durableTo, session } = envelope
    const filePosition = segment.filePositionOf(position)
    const { name: slot } = segment.slot.file
    const kind = KIND_NAMES[envelope.kind]
    this.groupRows.push({
      position,
      slot,
      filePosition,
      kind,
      length,
      batches: batchCount,
      firstIndex,
      firstOffset,
      durableTo,
      session,
    })
  }

  private noteBatchRow({ envelope }: WalkedGroup, { part, header }: WalkedGroup['batches'][number]): void {
    const { wish } = this
    if (wish === null || !wish.batches || part.baseOffset + header.lastOffsetDelta < wish.fromOffset) return
    if (this.batchRows.length >= wish.maxRows) {
      this.rowsLeftOut++
      return
    }
    const { index, baseOffset, term, appendTime, clientLength: bytes } = part
    const { control, codec, epoch, sequence, baseTimestamp, lastTimestamp, recordCount: records } = header
    const producer = producerName(header.producer)
    const { position } = envelope
    const times = { appendTime, baseTimestamp, lastTimestamp }
    this.batchRows.push({
      index,
      baseOffset,
      records,
      control,
      term,
      bytes,
      codec,
      producer,
      epoch,
      sequence,
      ...times,
      position,
    })
  }
}
