// Groups that this node coordinates: their state with everything committed, the leases of their members, and what is on its
// way into the log. From the moment the log was read until this node leads no more.
import { ProtocolError } from '@millrace/protocol'
import type { Environment, Timer } from '../environment.js'
import { decodeGroupCommand, encodeGroupCommand, type GroupCommand } from '../groups/group-command.js'
import type { GroupResult, MemberAssignment, MemberKey } from '../groups/group-types.js'
import type { GroupsState } from '../groups/groups-state.js'
import { Leases } from '../groups/leases.js'
import { GROUP_RETRY_MS, LATE_LEASE_TIMER_MS } from '../limits.js'
import type { Metrics } from '../metrics.js'
import type { Partition } from '../partition/partition.js'
import type { Refusal } from '../partition/pending-batch.js'
import { CommandWriter } from './command-writer.js'
import { GroupImages } from './group-images.js'
import type { HeldBeats } from './held-beats.js'

interface ServedOptions {
  readonly partition: Partition
  readonly environment: Environment
  readonly metrics: Metrics
  readonly beats: HeldBeats
  /** Partitions of a topic as far as is known here: 0 for one that was deleted, null for one that was not heard of yet. */
  readonly topicSize: (topicId: number) => number | null
  readonly report: (error: unknown) => void
}

/** Who waits for a command. One of both, once. */
export interface CommandListener {
  applied(result: GroupResult): void
  refused(refusal: Refusal): void
}

export class ServedGroups {
  readonly #options: ServedOptions
  readonly #leases = new Leases()
  readonly #writer: CommandWriter
  readonly #images: GroupImages
  /** Whose list has changed, and who is gone, since the last batch. */
  #affected: MemberKey[] = []
  #hasNewTopics = false
  /** What is on its way into the log, or was put there. */
  readonly #topicsNoted = new Map<number, number>()
  #leaseTimer: Timer | null = null
  #leaseTimerAtMs = 0
  readonly #retries = new Set<Timer>()
  #stopped = false

  /** @param byteLength of what the state was made of. */
  constructor(
    readonly state: GroupsState,
    byteLength: number,
    options: ServedOptions,
  ) {
    this.#options = options
    const { partition, environment, report } = options
    this.#writer = new CommandWriter({
      partition,
      environment,
      batchCommitted: (bytes) => this.#batchCommitted(bytes),
      report,
    })
    this.#images = new GroupImages({ state, writer: this.#writer, ...options }, byteLength)
    this.#grantAll()
    this.followTopics()
  }

  get #nowMs(): number {
    return this.#options.environment.clock.monotonicMs()
  }

  write(command: GroupCommand, expiresAtMs: number, listener: CommandListener): void {
    let value: Uint8Array
    let logged: GroupCommand
    try {
      // What is applied here is what others will read: nothing gets into the log that nobody could.
      value = encodeGroupCommand(command)
      logged = decodeGroupCommand(value)
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error
      listener.refused({ code: error.code, detail: error.detail })
      return
    }
    this.#options.metrics.groupCommands++
    this.#writer.write({
      value,
      expiresAtMs,
      committed: ({ appendTimeMs }) => listener.applied(this.#apply(logged, appendTimeMs)),
      refused: (refusal) => listener.refused(refusal),
    })
  }

  /** For commands that nobody waits for: they are written until they are applied, or this node leads no more. */
  note(command: GroupCommand): void {
    this.write(command, Number.POSITIVE_INFINITY, {
      applied: () => {},
      refused: () => {
        if (this.#stopped) return
        const retry = this.#options.environment.clock.timer(GROUP_RETRY_MS, () => {
          this.#retries.delete(retry)
          this.note(command)
        })
        this.#retries.add(retry)
      },
    })
  }

  /** @throws ProtocolError UNKNOWN_MEMBER, MEMBER_FENCED. */
  beat(group: string, memberId: bigint, memberEpoch: number): MemberAssignment & { readonly code: 'OK' } {
    const assignment = this.state.assignment(group, memberId, memberEpoch)
    if (assignment.code !== 'OK')
      throw new ProtocolError(assignment.code, `member ${memberId.toString(16)} of ${group}`)
    if (this.#isLate) this.#grantAll()
    if (!this.#leases.renew(group, memberId, memberEpoch, this.#nowMs)) {
      throw new ProtocolError('UNKNOWN_MEMBER', `the lease of member ${memberId.toString(16)} of ${group} ran out`)
    }
    return assignment
  }

  /** Nothing is applied any more; whoever waits is told why. */
  stop(reason: Refusal): void {
    this.#stopped = true
    this.#leaseTimer?.cancel()
    for (const retry of this.#retries) retry.cancel()
    this.#writer.stop(reason)
  }

  // -------------------------------------------------------------- what is committed

  #apply(command: GroupCommand, appendTimeMs: number): GroupResult {
    const result = this.state.apply(command, { appendTimeMs })
    this.#affected.push(...result.affected)
    if (command.kind === 'join' && result.kind === 'join' && result.code === 'OK') {
      const { group, memberId } = command
      const { memberEpoch, leaseMs } = result
      this.#leases.grant({ group, memberId, memberEpoch, leaseMs }, this.#nowMs)
      this.#options.metrics.groupJoins++
    }
    const leaves = command.kind === 'leave' || (command.kind === 'commit' && command.leaves)
    if (leaves && result.code === 'OK') this.#leases.drop(command.group, command.memberId)
    if (command.kind === 'join' || command.kind === 'reset') this.#hasNewTopics = true
    return result
  }

  #batchCommitted(bytes: number): void {
    for (const { group, memberId } of this.#affected.splice(0)) this.#options.beats.answer(group, memberId)
    this.#scheduleLeases()
    // What a command said of its topics may be older than what was heard since.
    if (this.#hasNewTopics) this.followTopics()
    this.#hasNewTopics = false
    this.#images.batchCommitted(bytes)
  }

  /** Topics that have grown, or are gone, become commands. */
  followTopics(): void {
    for (const { topicId, partitions } of this.state.topics()) {
      const now = this.#options.topicSize(topicId) ?? partitions
      const isNews = now === 0 || now > partitions
      if (!isNews || this.#topicsNoted.get(topicId) === now) continue
      this.#topicsNoted.set(topicId, now)
      this.note({ kind: 'topic', topicId, partitions: now })
    }
  }

  // -------------------------------------------------------------- leases

  /** This node could not hear anybody until now. */
  #grantAll(): void {
    this.#leases.clear()
    for (const member of this.state.members()) this.#leases.grant(member, this.#nowMs)
    this.#scheduleLeases()
  }

  #scheduleLeases(): void {
    const { earliestMs } = this.#leases
    if (this.#stopped || earliestMs === Number.POSITIVE_INFINITY) return
    if (this.#leaseTimer !== null && this.#leaseTimerAtMs <= earliestMs) return
    this.#leaseTimer?.cancel()
    this.#leaseTimerAtMs = earliestMs
    const delayMs = Math.max(1, earliestMs - this.#nowMs)
    this.#leaseTimer = this.#options.environment.clock.timer(delayMs, () => {
      const isLate = this.#isLate
      this.#leaseTimer = null
      if (isLate) this.#grantAll()
      else this.#expire()
    })
  }

  /** A broker that was stopped itself for a while has beats waiting that it has not read yet. */
  get #isLate(): boolean {
    return this.#leaseTimer !== null && this.#nowMs - this.#leaseTimerAtMs > LATE_LEASE_TIMER_MS
  }

  #expire(): void {
    for (const { group, memberId, memberEpoch } of this.#leases.takeExpired(this.#nowMs)) {
      // One that was fenced meanwhile is no member any more.
      if (this.state.assignment(group, memberId, memberEpoch).code !== 'OK') continue
      this.#options.metrics.groupExpiries++
      this.#options.environment.log.info({ group, member: memberId.toString(16) }, 'the lease of a member ran out')
      this.note({ kind: 'expire', group, memberId, memberEpoch })
    }
    this.#scheduleLeases()
  }
}
