// A subscription as a member of its group: partitions come to the session and go from it as the coordinator says, and
// what is finished of them is committed.
//
// Invariant: of a partition that was taken away nothing is delivered, begun or committed any more; one that is asked back
// is released only when all work on it is over, together with its last commit.
import {
  type AssignedPartition,
  CODE_OK,
  type CommittedPartition,
  MAX_ENTRIES_PER_FRAME,
  type TopicInfo,
} from '@millrace/protocol'
import type { ClientTimer } from './environment.js'
import { type MillraceError, toMillraceError } from './errors.js'
import { GroupMember, type MemberOwner } from './group-member.js'
import { LANE, LEAVE_TIMEOUT_MS } from './limits.js'
import type { ResolvedGroupOptions } from './options.js'
import type { Position } from './partition-progress.js'
import type { PartitionReader } from './partition-readers.js'
import { withinTime } from './producer.js'
import type { PartitionSource, Session, SessionSurroundings } from './session.js'
import type { ResolvedSubscribeOptions } from './subscribe-options.js'

/** What a member of a group reads at the moment. */
export interface Assignment {
  readonly topic: string
  readonly partitions: readonly number[]
  /** Those of them that another member waits for: work on them that has begun is finished first. */
  readonly revoking: readonly number[]
}

/** How far a member of a group is behind in one partition. */
export interface PartitionLag {
  readonly topic: string
  readonly partition: number
  /** The offset that the next committed record will have; null before the partition was reached. */
  readonly highWatermark: number | null
  /** Everything below is committed by the group; null when nothing is. */
  readonly committedOffset: number | null
  /** The next record to be delivered; null before the partition was reached. */
  readonly nextOffset: number | null
  /** Records above the committed offset: what would be done again now, and what was not delivered yet. */
  readonly lag: number | null
  /** Records that were not delivered yet. */
  readonly undelivered: number | null
}

type AnyReader = PartitionReader<unknown, unknown>

/** A partition that is this member's. */
interface Held {
  readonly partition: number
  readonly epoch: number
  /** The reader it had last; the session may have another one since, after a seek. */
  reader: AnyReader | null
  committed: number | null
  /** Another member waits for it, and nothing more of it is delivered. */
  isLeaving: boolean
  /** Nothing of it is being worked on. */
  isReleasable: boolean
}

export class GroupSubscription implements PartitionSource, MemberOwner {
  readonly #session: Session<unknown, unknown>
  readonly #surroundings: SessionSurroundings
  readonly #options: ResolvedGroupOptions
  readonly #subscribe: ResolvedSubscribeOptions
  readonly #onAssigned: (assignment: Assignment) => void
  readonly #held = new Map<number, Held>()
  #member: GroupMember | null = null
  #topicId = 0
  #timer: ClientTimer | null = null
  #committing: Promise<void> | null = null
  #again = false
  #isOver = false
  #hasLeft = false
  #left: Promise<void> = Promise.resolve()

  constructor(
    session: Session<unknown, unknown>,
    surroundings: SessionSurroundings,
    options: ResolvedGroupOptions,
    subscribe: ResolvedSubscribeOptions,
    /** The membership before this one, which is to commit first. */
    readonly before: Promise<void>,
    onAssigned: (assignment: Assignment) => void,
  ) {
    this.#session = session
    this.#surroundings = surroundings
    this.#options = options
    this.#subscribe = subscribe
    this.#onAssigned = onAssigned
  }

  /** Resolves when the last commit was answered, or its time was up. */
  get left(): Promise<void> {
    return this.#left
  }

  /** Gives up waiting for the last commit. */
  abandon(): void {
    this.#hasLeft = true
    this.#member?.stop()
  }

  // What the session says.

  onTopic({ topicId }: TopicInfo): void {
    this.#topicId = topicId
    void this.before.then(() => {
      if (this.#isOver) return
      const { cluster, warnings } = this.#surroundings
      this.#member = new GroupMember(cluster, warnings, this.#options, topicId, this)
      this.#member.start()
      this.#armTimer()
    })
  }

  onOver(): void {
    this.#isOver = true
    for (const held of this.#held.values()) held.reader = this.#readerOf(held)
    this.#left = this.#session.whenIdle().then(() => this.#leave())
  }

  /** Where the group begins for the first time is committed at once: whoever comes next begins there too. */
  onOpened(partition: number): void {
    if (this.#held.get(partition)?.committed === null) this.#commitSoon()
  }

  // What the membership says.

  assigned(partitions: readonly AssignedPartition[]): void {
    const mine = new Map(
      partitions.filter(({ topicId }) => topicId === this.#topicId).map((one) => [one.partition, one]),
    )
    for (const held of [...this.#held.values()]) {
      if (mine.get(held.partition)?.epoch !== held.epoch) this.#takeAway(held)
    }
    if (this.#isOver) return
    for (const entry of mine.values()) {
      const held = this.#held.get(entry.partition)
      if (held === undefined) this.#receive(entry)
      else if (entry.isRevoking) this.#revoke(held)
    }
    this.#tell()
    this.#commitSoon()
  }

  lost(): void {
    for (const held of [...this.#held.values()]) this.#takeAway(held)
    this.#tell()
  }

  doubted(inDoubt: boolean): void {
    if (!this.#isOver) this.#session.suspend(inDoubt)
  }

  failed(error: MillraceError): void {
    this.lost()
    this.#session.end(error)
  }

  // What users ask.

  get lags(): PartitionLag[] {
    return [...this.#held.values()].filter((held) => !held.isLeaving).map((held) => this.#lagOf(held))
  }

  // Partitions.

  #receive({ partition, epoch, offset, term, isRevoking }: AssignedPartition): void {
    const held: Held = {
      partition,
      epoch,
      reader: null,
      committed: offset,
      isLeaving: isRevoking,
      isReleasable: isRevoking,
    }
    this.#held.set(partition, held)
    if (isRevoking) return
    const start = this.#subscribe.startOf(partition)
    held.reader = this.#session.addPartition(
      partition,
      offset === null ? start : { start: 'offset', position: offset, term },
    )
  }

  #revoke(held: Held): void {
    if (held.isLeaving) return
    held.isLeaving = true
    const reader = this.#readerOf(held)
    held.reader = reader
    if (reader !== null) this.#session.removePartition(reader)
    const idle = (): void => {
      held.isReleasable = true
      this.#commitSoon()
    }
    if (reader === null || reader.inbox.progress.inFlight === 0) idle()
    else reader.inbox.progress.onIdle = idle
  }

  #takeAway(held: Held): void {
    this.#held.delete(held.partition)
    const reader = this.#readerOf(held)
    if (reader === null) return
    reader.inbox.progress.onIdle = null
    this.#session.removePartition(reader)
  }

  #readerOf(held: Held): AnyReader | null {
    return held.isLeaving || this.#isOver ? held.reader : (this.#session.readers.get(held.partition) ?? held.reader)
  }

  #tell(): void {
    const held = [...this.#held.values()].sort((a, b) => a.partition - b.partition)
    this.#onAssigned({
      topic: this.#session.topicName,
      partitions: held.map(({ partition }) => partition),
      revoking: held.filter(({ isLeaving }) => isLeaving).map(({ partition }) => partition),
    })
  }

  #lagOf(held: Held): PartitionLag {
    const { topicName: topic } = this.#session
    const { partition, committed: committedOffset } = held
    const reader = this.#readerOf(held)
    const highWatermark = reader?.cursor.knownHighWatermark ?? null
    const nextOffset = reader === null || reader.inbox.fetchOffset < 0 ? null : reader.inbox.nextOffset
    const behind = (offset: number | null): number | null =>
      highWatermark === null || offset === null ? null : Math.max(0, highWatermark - offset)
    const counts = { lag: behind(committedOffset), undelivered: behind(nextOffset) }
    return { topic, partition, highWatermark, committedOffset, nextOffset, ...counts }
  }

  // Commits.

  #armTimer(): void {
    this.#timer = this.#surroundings.cluster.environment.timer(this.#options.commitIntervalMs, () => {
      this.#commitSoon()
      this.#armTimer()
    })
  }

  /** One request at a time: what is finished meanwhile goes with the next. */
  #commitSoon(): void {
    if (this.#committing !== null) {
      this.#again = true
      return
    }
    this.#committing = this.#commitAll().finally(() => {
      this.#committing = null
    })
  }

  async #commitAll(): Promise<void> {
    try {
      do {
        this.#again = false
        for (let due = this.#due(); due.length > 0 && !this.#hasLeft; due = due.slice(MAX_ENTRIES_PER_FRAME)) {
          await this.#commit(due.slice(0, MAX_ENTRIES_PER_FRAME), false)
        }
      } while (this.#again && !this.#hasLeft)
    } catch (cause) {
      // A membership that was ended has told why.
      if (!this.#isOver) this.failed(toMillraceError(cause))
    }
  }

  async #commit(due: readonly Due[], leaves: boolean): Promise<void> {
    const codes = await this.#member?.commit(
      due.map(({ entry }) => entry),
      leaves,
    )
    // Null: the member was given up for dead, and everything was taken away.
    if (codes === null || codes === undefined) return
    due.forEach(({ held, entry }, i) => {
      if (this.#held.get(held.partition) !== held) return
      if (codes[i] !== CODE_OK) this.#takeAway(held)
      else {
        if (entry.offset !== null) held.committed = entry.offset
        if (entry.releases) this.#held.delete(held.partition)
      }
      if (codes[i] !== CODE_OK || entry.releases) this.#tell()
    })
  }

  /** What is to be committed or released now. */
  #due(): Due[] {
    const due: Due[] = []
    for (const held of this.#held.values()) {
      const { partition, epoch, committed, isReleasable: releases } = held
      const position = this.#positionOf(held)
      const isAhead = position !== null && (committed === null || position.offset > committed)
      if (!isAhead && !releases) continue
      const { offset, term } = isAhead ? position : { offset: null, term: 0 }
      due.push({ held, entry: { topicId: this.#topicId, partition, lane: LANE, epoch, offset, term, releases } })
    }
    return due
  }

  #positionOf(held: Held): Position | null {
    const reader = this.#readerOf(held)
    return reader === null ? null : this.#session.positionOf(reader)
  }

  /** The last commit. A member with a name stays, so that it finds its partitions when it comes back. */
  async #leave(): Promise<void> {
    this.#timer?.cancel()
    const member = this.#member
    if (member === null || this.#hasLeft) return
    await withinTime(this.#surroundings.cluster.environment, this.#sayGoodbye(), LEAVE_TIMEOUT_MS)
    this.#hasLeft = true
    member.stop()
    this.#held.clear()
    this.#tell()
  }

  async #sayGoodbye(): Promise<void> {
    await this.#committing
    const due = this.#due()
    const leaves = this.#options.memberName === null
    try {
      while (due.length > MAX_ENTRIES_PER_FRAME) await this.#commit(due.splice(0, MAX_ENTRIES_PER_FRAME), false)
      if (due.length > 0 || leaves) await this.#commit(due, leaves)
    } catch (cause) {
      const error = toMillraceError(cause)
      const { topicName: topic } = this.#session
      const message = `what was finished last of ${topic} is not committed: ${error.message}`
      if (!this.#hasLeft) this.#surroundings.warnings.info(message, { topic, group: this.#options.group, error })
    }
  }
}

interface Due {
  readonly held: Held
  readonly entry: CommittedPartition
}
