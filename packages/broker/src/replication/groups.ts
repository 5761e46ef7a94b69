// All groups that this node has a replica of: they tick together, and messages find them by the key of their log.
import type { SetBeat, SetBeatReply } from '@millrace/protocol'
import type { Environment } from '../environment.js'
import { CATCH_UP_BYTES_PER_SECOND } from '../limits.js'
import { isOnly, isSoleVoter } from '../raft/configuration.js'
import type { Entry, InstallRequest, NodeId, RaftMessage } from '../raft/raft-types.js'
import { type DiskPulse, type LogKey, type PartitionLog, StorageError } from '../storage/log-store.js'
import { CatchUpPace } from './catch-up-pace.js'
import type { GroupConfigurations } from './group-configurations.js'
import type { GroupOwner, GroupPeers, GroupVotes, IncomingAppend, SetPeers } from './group-ports.js'
import { HeartbeatSets } from './heartbeat-sets.js'
import type { RepairList } from './repair-list.js'
import { ReplicaGroup } from './replica-group.js'
import { TickTimer } from './tick-timer.js'

export interface GroupsOptions {
  readonly environment: Environment
  readonly nodeId: NodeId
  /** How often this node has begun: a group without others has had one term each time. */
  readonly starts: number
  readonly votes: GroupVotes
  readonly peers: GroupPeers & SetPeers
  readonly pulse: DiskPulse
  /** Replicas that were not whole when this node ran before. */
  readonly repairs: RepairList
  /** This node has had a log of the group, which is not there any more. */
  readonly isLost: (key: LogKey) => boolean
  readonly report: (error: unknown) => void
}

export interface GroupRequest {
  readonly key: LogKey
  readonly log: PartitionLog
  /** What the log says of who belongs to the group. */
  readonly configurations: GroupConfigurations
  /** Where it says nothing: nodes that the group began with, the one that should lead first. Nobody: it is new here only. */
  readonly founders: readonly NodeId[]
  readonly mode: 'flush' | 'write'
  readonly owner: GroupOwner
}

/**
 * Whether no other node can have what this one lacks. A log that lacks something may lack the very change by which others
 * came, so that it is believed only where the group is known to be as it began.
 */
export function isSoleReplica({ log, configurations, founders }: SoleQuestion, nodeId: NodeId): boolean {
  const isFounder = isOnly(founders, nodeId)
  if (log.lostAcknowledged) return isFounder
  return configurations.last === null ? isFounder : isSoleVoter(configurations.last, nodeId)
}

type SoleQuestion = Pick<GroupRequest, 'log' | 'configurations' | 'founders'>

export class Groups {
  readonly #options: GroupsOptions
  /** By topic, then partition: lanes are 0 everywhere today. */
  readonly #byTopic = new Map<number, Map<number, ReplicaGroup>>()
  readonly #catchUp: CatchUpPace
  /** Those to which time matters: not the ones that are alone, nor those at rest. */
  readonly #awake = new Set<ReplicaGroup>()
  readonly #sets: HeartbeatSets
  /** Whoever is alone has nobody to wait for: it runs while time matters to some group, or to those at rest together. */
  readonly #timer: TickTimer

  constructor(options: GroupsOptions) {
    this.#options = options
    const { environment, starts, peers, pulse } = options
    const { clock } = environment
    this.#sets = new HeartbeatSets({ starts, peers, pulse, clock, find: (key) => this.find(key)?.rest })
    this.#catchUp = new CatchUpPace(clock, CATCH_UP_BYTES_PER_SECOND)
    this.#timer = new TickTimer(clock, {
      isBusy: () => this.#awake.size > 0,
      isInUse: () => this.#awake.size > 0 || this.#sets.isInUse,
      ticked: (count) => this.#ticked(count),
    })
  }

  get nodeId(): NodeId {
    return this.#options.nodeId
  }

  /** Makes the replica of this node; it takes part once it is started. @throws DiskError. */
  async add(request: GroupRequest): Promise<ReplicaGroup> {
    const { key, log, configurations, founders, mode, owner } = request
    const { environment, nodeId, starts, votes, peers, report, repairs } = this.#options
    const { clock, memory, random, log: logger } = environment
    const isAlone = isSoleReplica(request, nodeId)
    const isRepairing = !isAlone && (repairs.has(key) || this.#hasLost(key, log, mode))
    if (isRepairing) {
      // Before it says a word: a restart must not forget it.
      await repairs.add(key)
      logger.warn({ ...key }, 'a replica may lack batches it had acknowledged; it gets them from the others first')
    }
    const group: ReplicaGroup = new ReplicaGroup({
      key,
      nodeId,
      log,
      mode,
      owner,
      votes,
      peers,
      sets: this.#sets,
      clock,
      memory,
      report,
      configuration: { voters: founders, outgoing: [], learners: [] },
      configurations,
      catchUp: this.#catchUp,
      isRepairing,
      leastTerm: isAlone && votes.find(key) === 'lost' ? starts : 0,
      damagedOnTheWay: () =>
        logger.warn({ ...key }, 'a batch of another broker arrived damaged; it is asked for again'),
      repaired: () => {
        logger.info({ ...key }, 'a replica holds everything again')
        // A store that fails or closes says so itself; what it does not note is repaired once more after the next start.
        log.noteWhole().catch((error: unknown) => {
          if (!(error instanceof StorageError)) report(error)
        })
        repairs.remove(key)
      },
      // With the time to the millisecond, for whoever measures how long others take to hear of it.
      elected: (_, term) => logger.debug({ ...key, term, electedAtMs: clock.wallMs() }, 'a replica was elected'),
      needsTicksChanged: (needsTicks) => {
        if (needsTicks) this.#awake.add(group)
        else this.#awake.delete(group)
        this.#timer.look()
      },
      random: (bound) => random.uint32() % bound,
    })
    const ofTopic = this.#byTopic.get(key.topicId) ?? new Map<number, ReplicaGroup>()
    this.#byTopic.set(key.topicId, ofTopic)
    ofTopic.set(key.partition, group)
    return group
  }

  #hasLost(key: LogKey, log: PartitionLog, mode: 'flush' | 'write'): boolean {
    const { votes, isLost } = this.#options
    return log.lostAcknowledged || isLost(key) || votes.find(key) === 'lost' || (mode === 'write' && log.wasPowerLost)
  }

  /** The replica takes part no more. */
  remove(key: LogKey): void {
    const group = this.find(key)
    if (group === undefined) return
    group.stop()
    this.#awake.delete(group)
    this.#byTopic.get(key.topicId)?.delete(key.partition)
  }

  find(key: LogKey): ReplicaGroup | undefined {
    return this.#byTopic.get(key.topicId)?.get(key.partition)
  }

  *all(): Iterable<ReplicaGroup> {
    for (const ofTopic of this.#byTopic.values()) yield* ofTopic.values()
  }

  /** Every replica takes part no more. */
  stop(): void {
    this.#timer.stop()
    this.#options.repairs.stop()
    for (const group of this.all()) group.stop()
    this.#awake.clear()
  }

  // -------------------------------------------------------------- what peers send

  onRaft(key: LogKey, message: RaftMessage<Entry>): void {
    this.find(key)?.receive(message)
  }

  onAppend(key: LogKey, append: IncomingAppend): void {
    const group = this.find(key)
    // A topic that this node has not heard of yet, or has dropped: the leader tries again.
    if (group === undefined) append.release()
    else group.receiveAppend(append)
  }

  onInstall(key: LogKey, message: InstallRequest, state: Uint8Array): void {
    this.find(key)?.receiveInstall(message, state)
  }

  onSetBeat(from: NodeId, beat: SetBeat): void {
    this.#sets.onBeat(from, beat)
  }

  onSetBeatReply(from: NodeId, reply: SetBeatReply): void {
    this.#sets.onReply(from, reply)
  }

  onLost(nodeId: NodeId): void {
    this.#sets.onLost(nodeId)
    for (const group of this.all()) group.peerLost(nodeId)
  }

  #ticked(count: number): void {
    for (let passed = 0; passed < count; passed++) this.#attempt(() => this.#sets.tick())
    for (const group of this.#awake) this.#attempt(() => group.tick())
  }

  /** A bug met in one group must not keep the others waiting. */
  #attempt(work: () => void): void {
    try {
      work()
    } catch (error) {
      this.#options.report(error)
    }
  }
}
