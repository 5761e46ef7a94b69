// What must hold of the replicas of a cluster at every moment, seen from above: election safety, commits that stay, leaders
// that have everything committed, and a quorum that has it on disk. Looked at after every few events.
import type { Broker } from '#src/broker.js'
import { membersOf } from '#src/raft/configuration.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'
import type { Coverage } from './coverage.js'
import type { TopicOptions } from './options.js'
import type { Recorder } from './recorder.js'

export interface WatchWorld {
  readonly nodes: readonly BrokerNode[]
  readonly topics: readonly TopicOptions[]
  readonly recorder: Recorder
  readonly coverage: Coverage
  fail(invariant: (typeof BROKEN_REPLICAS)[number], message: string): void
}

/** What was seen last of one replica in one life of its broker. */
interface Seen {
  term: number
  commitIndex: number
  lastIndex: number
  /** Of the batch at `lastIndex`. */
  lastTerm: number
  /** Up to here its committed batches were compared with those of others. */
  comparedIndex: number
}

interface Committed {
  /** Of the batch. */
  readonly term: number
  /** It was committed in this term or an older one. */
  readonly committedIn: number
}

/** Of these the first ends a run: what follows means nothing. */
export const BROKEN_REPLICAS = [
  'two-leaders',
  'term-regress',
  'commit-regress',
  'served-early',
  'incomplete-leader',
  'commit-divergence',
  'no-quorum',
  'dropped-early',
] as const

/** What is known of a group from all its replicas. */
interface Group {
  readonly leaders: Map<number, number>
  newestTerm: number
  /** By index; a hole is one that nobody who was looked at had any more. */
  readonly committed: Committed[]
  /** Whom it was last asked of whether a quorum has everything committed. */
  quorumIndex: number
}

export class ReplicaWatch {
  private readonly groups = new Map<string, Group>()
  private readonly seen = new Map<ReplicaGroup, Seen>()
  /** The replicas of each broker when they were looked at last. */
  private readonly there = new WeakMap<Broker, ReadonlyMap<string, ReplicaGroup>>()
  /** Damaged beyond repair: such a replica begins anew once the others are known to have everything. */
  private readonly damaged = new WeakSet<ReplicaGroup>()

  constructor(private readonly world: WatchWorld) {}

  look(): void {
    for (const node of this.world.nodes) {
      if (node.broker === null) continue
      const there = new Map<string, ReplicaGroup>()
      for (const replica of node.broker.replicas()) {
        there.set(nameOf(replica), replica)
        if (replica.log.failure?.code === 'DAMAGED') this.damaged.add(replica)
        this.lookAt(node, replica)
      }
      const before = this.there.get(node.broker)
      for (const [name, replica] of before ?? []) if (!there.has(name)) this.checkGone(node, replica)
      this.there.set(node.broker, there)
    }
  }

  /** A replica that can be repaired is given up only when its group does without it. */
  private checkGone({ nodeId }: BrokerNode, gone: ReplicaGroup): void {
    if (this.world.topics[gone.key.topicId - 1] === undefined || this.damaged.has(gone)) return
    const leaders = this.world.nodes.flatMap(({ broker }) => {
      const replica = broker === null ? undefined : replicaOf(broker.replicas(), gone)
      return replica?.isServing === true ? [replica] : []
    })
    const newest = leaders.sort((a, b) => b.term - a.term)[0]
    if (newest === undefined || !membersOf(newest.configuration).includes(nodeId)) return
    this.world.fail('dropped-early', `${nameOf(gone)} is gone from broker ${nodeId}, and its group counts on it`)
  }

  private lookAt(node: BrokerNode, replica: ReplicaGroup): void {
    const name = nameOf(replica)
    let group = this.groups.get(name)
    if (group === undefined) {
      group = { leaders: new Map(), newestTerm: 0, committed: [], quorumIndex: 0 }
      this.groups.set(name, group)
    }
    const where = `${name} on broker ${node.nodeId}`
    this.compareWithBefore(where, replica)
    if (replica.core.role === 'leader') this.checkLeader(where, node, replica, group)
    this.checkCommitted(where, replica, group)
  }

  /** Within one life nothing that was said is taken back. */
  private compareWithBefore(where: string, replica: ReplicaGroup): void {
    const { coverage } = this.world
    const { term, commitIndex, lastIndex, start } = replica.core
    const before = this.seen.get(replica)
    if (before !== undefined) {
      if (term < before.term) this.world.fail('term-regress', `${where}: term ${term} after ${before.term}`)
      if (commitIndex < before.commitIndex) {
        this.world.fail('commit-regress', `${where}: committed up to ${commitIndex} after ${before.commitIndex}`)
      }
      const isThere = start.index > before.lastIndex || replica.core.termAt(before.lastIndex) === before.lastTerm
      if (lastIndex < before.lastIndex || !isThere) coverage.count('replica cut off a tail')
      if (start.index > before.lastIndex + 1) coverage.count('replica took over a state')
    } else if (replica.core.isRepairing) coverage.count('replica under repair')
    const comparedIndex = before?.comparedIndex ?? start.index - 1
    const lastTerm = replica.core.termAt(lastIndex)
    this.seen.set(replica, { term, commitIndex, lastIndex, lastTerm, comparedIndex })
  }

  private checkLeader(where: string, node: BrokerNode, replica: ReplicaGroup, group: Group): void {
    const { core } = replica
    const known = group.leaders.get(core.term)
    if (known === undefined) {
      group.leaders.set(core.term, node.nodeId)
      this.newLeader(where, replica, group)
    } else if (known !== node.nodeId) {
      this.world.fail('two-leaders', `${where} leads term ${core.term}, and so does broker ${known}`)
    }
    if (core.term > group.newestTerm) {
      if (group.newestTerm > 0) this.noteChange(replica)
      group.newestTerm = core.term
    } else if (core.term < group.newestTerm) this.noteChange(replica)
    if (core.isServing && core.termAt(core.commitIndex) !== core.term && core.start.index <= core.commitIndex) {
      this.world.fail('served-early', `${where} serves, and nothing of its term ${core.term} is committed`)
    }
    if (core.commitIndex > group.quorumIndex) {
      group.quorumIndex = core.commitIndex
      this.checkQuorum(where, replica)
    }
  }

  private noteChange({ key }: ReplicaGroup): void {
    const topic = this.world.topics[key.topicId - 1]
    if (topic !== undefined) this.world.recorder.leaderChanged(topic.name, key.partition)
  }

  private newLeader(where: string, replica: ReplicaGroup, group: Group): void {
    const { core } = replica
    if (group.leaders.size > 1) this.world.coverage.count('leader changed')
    if (this.mayLose(replica)) return
    for (let index = core.start.index; index < group.committed.length; index++) {
      const committed = group.committed[index]
      if (committed === undefined || core.termAt(index) === committed.term) continue
      // Whoever wakes up and finds itself elected long ago need not have what others have committed since.
      if (committed.committedIn >= core.term) continue
      this.world.fail('incomplete-leader', `${where} leads term ${core.term} without the committed batch ${index}`)
      return
    }
  }

  /** What one replica takes for committed is what every other one does. */
  private checkCommitted(where: string, replica: ReplicaGroup, group: Group): void {
    const { core } = replica
    if (this.mayLose(replica)) return
    const { committed } = group
    const last = Math.min(core.commitIndex, core.lastIndex)
    const seen = this.seen.get(replica)!
    for (let index = Math.max(core.start.index, seen.comparedIndex + 1); index <= last; index++) {
      const term = core.termAt(index)
      const known = committed[index]
      if (known === undefined) committed[index] = { term, committedIn: core.term }
      else if (known.term !== term) {
        const message = `${where}: batch ${index} is of term ${term}, and was of term ${known.term}`
        this.world.fail('commit-divergence', message)
        return
      }
    }
    seen.comparedIndex = last
  }

  /** A leader commits what a majority of the voters has where its durability says; who is off may have it too. */
  private checkQuorum(where: string, leader: ReplicaGroup): void {
    const { core } = leader
    const { commitIndex } = core
    const term = core.termAt(commitIndex)
    const { voters, outgoing } = core.configuration
    const having = (nodes: readonly number[]): number =>
      nodes.filter((nodeId) => {
        const broker = this.world.nodes.find((node) => node.nodeId === nodeId)?.broker ?? null
        const replica = broker === null ? undefined : replicaOf(broker.replicas(), leader)
        return replica === undefined || this.hasIt(replica, commitIndex, term)
      }).length
    const has = having(voters)
    // What was committed before a change began needs those only who are about to go.
    if (has * 2 > voters.length || having(outgoing) * 2 > outgoing.length) return
    this.world.fail('no-quorum', `${where} has committed ${commitIndex}, which ${has} of ${voters.length} voters have`)
  }

  private hasIt({ core, log, key }: ReplicaGroup, index: number, term: number): boolean {
    if (core.start.index > index) return true
    const isBuffered = this.world.topics[key.topicId - 1]?.durability === 'buffered'
    const reached = isBuffered ? log.writtenIndex : log.flushedIndex
    return reached >= index && log.termAtIndex(index) === term
  }

  /** A majority has lost what it had not flushed, and it need not have flushed anything. */
  private mayLose({ key, core }: ReplicaGroup): boolean {
    if (this.world.topics[key.topicId - 1]?.durability !== 'buffered') return false
    const lossy = new Set(this.world.recorder.diskLosses.map(({ node }) => node))
    return lossy.size * 2 > core.configuration.voters.length
  }
}

function nameOf({ key: { topicId, partition } }: ReplicaGroup): string {
  return topicId === 0 ? 'metadata' : `topic ${topicId}/${partition}`
}

function replicaOf(replicas: Iterable<ReplicaGroup>, like: ReplicaGroup): ReplicaGroup | undefined {
  const { topicId, partition } = like.key
  for (const replica of replicas) {
    if (replica.key.topicId === topicId && replica.key.partition === partition) return replica
  }
  return undefined
}
