// All groups that this node has a replica of: they tick together, and messages find them by the key of their log.
import type { Environment, Timer } from '../environment.js'
import { RAFT_LIMITS } from '../raft/raft-limits.js'
import type { Entry, InstallRequest, NodeId, RaftMessage } from '../raft/raft-types.js'
import type { LogKey, PartitionLog } from '../storage/log-store.js'
import type { GroupOwner, GroupPeers, GroupVotes, IncomingAppend } from './group-ports.js'
import type { RepairList } from './repair-list.js'
import { ReplicaGroup } from './replica-group.js'

export interface GroupsOptions {
  readonly environment: Environment
  readonly nodeId: NodeId
  /** How often this node has begun: a group without others has had one term each time. */
  readonly starts: number
  readonly votes: GroupVotes
  readonly peers: GroupPeers
  /** Replicas that were not whole when this node ran before. */
  readonly repairs: RepairList
  /** This node has voted in a group whose log is not there any more. */
  readonly isLost: (key: LogKey) => boolean
  readonly report: (error: unknown) => void
}

export interface GroupRequest {
  readonly key: LogKey
  readonly log: PartitionLog
  /** Nodes that have a replica, the one that should lead first. */
  readonly replicas: readonly NodeId[]
  readonly mode: 'flush' | 'write'
  readonly owner: GroupOwner
}

export class Groups {
  readonly #options: GroupsOptions
  /** By topic, then partition: lanes are 0 everywhere today. */
  readonly #byTopic = new Map<number, Map<number, ReplicaGroup>>()
  #timer: Timer | null = null
  #replicated = 0

  constructor(options: GroupsOptions) {
    this.#options = options
  }

  /** Makes the replica of this node; it takes part once it is started. @throws DiskError. */
  async add({ key, log, replicas, mode, owner }: GroupRequest): Promise<ReplicaGroup> {
    const { environment, nodeId, starts, votes, peers, report, repairs } = this.#options
    const { clock, memory, random, log: logger } = environment
    const isAlone = replicas.length === 1
    const isRepairing = !isAlone && (repairs.has(key) || this.#hasLost(key, log, mode))
    if (isRepairing) {
      // Before it says a word: a restart must not forget it.
      await repairs.add(key)
      logger.warn({ ...key }, 'a replica may lack batches it had acknowledged; it gets them from the others first')
    }
    const group = new ReplicaGroup({
      key,
      nodeId,
      log,
      mode,
      owner,
      votes,
      peers,
      clock,
      memory,
      report,
      configuration: { voters: replicas, outgoing: [], learners: [] },
      isRepairing,
      leastTerm: isAlone && votes.find(key) === 'lost' ? starts : 0,
      damagedOnTheWay: () =>
        logger.warn({ ...key }, 'a batch of another broker arrived damaged; it is asked for again'),
      repaired: () => {
        logger.info({ ...key }, 'a replica holds everything again')
        log.noteWhole().catch(report)
        repairs.remove(key).catch(report)
      },
      random: (bound) => random.uint32() % bound,
    })
    const ofTopic = this.#byTopic.get(key.topicId) ?? new Map<number, ReplicaGroup>()
    this.#byTopic.set(key.topicId, ofTopic)
    ofTopic.set(key.partition, group)
    if (!isAlone) this.#replicated++
    this.#schedule()
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
    this.#byTopic.get(key.topicId)?.delete(key.partition)
    if (group.core.configuration.voters.length > 1) this.#replicated--
  }

  find(key: LogKey): ReplicaGroup | undefined {
    return this.#byTopic.get(key.topicId)?.get(key.partition)
  }

  *all(): Iterable<ReplicaGroup> {
    for (const ofTopic of this.#byTopic.values()) yield* ofTopic.values()
  }

  /** Every replica takes part no more. */
  stop(): void {
    this.#timer?.cancel()
    this.#timer = null
    for (const group of this.all()) group.stop()
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

  onLost(nodeId: NodeId): void {
    for (const group of this.all()) group.peerLost(nodeId)
  }

  /** Whoever is alone has nobody to wait for: time matters only to groups with others. */
  #schedule(): void {
    if (this.#timer !== null || this.#replicated === 0) return
    this.#timer = this.#options.environment.clock.timer(RAFT_LIMITS.tickMs, () => {
      this.#timer = null
      this.#schedule()
      for (const group of this.all()) this.#tick(group)
    })
  }

  #tick(group: ReplicaGroup): void {
    try {
      group.tick()
    } catch (error) {
      this.#options.report(error)
    }
  }
}
