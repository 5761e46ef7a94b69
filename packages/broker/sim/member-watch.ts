// What must hold of the members of a cluster at every moment, seen from above: ids and disks belong together for ever, who is
// removed stays removed and is counted on by nobody, and groups change one step at a time.
import type { Broker } from '#src/broker.js'
import type { NodeRecord } from '#src/cluster/node-registry.js'
import { membersOf } from '#src/raft/configuration.js'
import type { RaftCore } from '#src/raft/raft-core.js'
import type { Configuration, Entry } from '#src/raft/raft-types.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'

interface MemberWorld {
  readonly nodes: readonly BrokerNode[]
  fail(invariant: (typeof BROKEN_MEMBERS)[number], message: string): void
}

/** Of these the first ends a run: what follows means nothing. */
export const BROKEN_MEMBERS = [
  'identity-reused',
  'removed-early',
  'removed-back',
  'two-changes',
  'voter-behind',
] as const

export class MemberWatch {
  private readonly diskOf = new Map<number, string>()
  private readonly nodeOf = new Map<string, number>()
  /** The machine that has been a node. */
  private readonly machineOf = new Map<number, number>()
  /** The version of the metadata in which a node was first seen removed. */
  private readonly removedIn = new Map<number, number>()
  private readonly forced = new Set<number>()
  private readonly seen = new WeakMap<Broker, number>()
  /** The version of the metadata in which a topic was first seen gone. */
  private readonly deletedIn = new Map<number, number>()
  private readonly versionSeen = new WeakMap<Broker['metadata'], number>()
  /** The last joint configuration of each leader. */
  private readonly joint = new WeakMap<RaftCore<Entry>, Configuration>()

  constructor(private readonly world: MemberWorld) {}

  /** Somebody asks for a node to be removed. */
  expectRemoval(nodeId: number, isForced: boolean): void {
    if (isForced) this.forced.add(nodeId)
  }

  look(): void {
    for (const node of this.world.nodes) {
      if (node.broker === null) continue
      this.lookAtNode(node)
      this.lookAtRegistry(node.broker)
      this.lookAtTopics(node.broker)
      for (const replica of node.broker.replicas()) this.lookAtGroup(node, replica)
    }
  }

  private lookAtNode({ nodeId, number }: BrokerNode): void {
    const machine = this.machineOf.get(nodeId) ?? number
    this.machineOf.set(nodeId, machine)
    if (machine === number) return
    this.world.fail('identity-reused', `broker ${number} is node ${nodeId}, and so was broker ${machine}`)
  }

  /** Who is gone by its id stays gone: a topic of the same name is another one. */
  private lookAtTopics({ metadata }: Broker): void {
    const { state, version } = metadata
    if (this.versionSeen.get(metadata) === version) return
    this.versionSeen.set(metadata, version)
    for (let topicId = 1; topicId < state.nextTopicId; topicId++) {
      const deletedIn = this.deletedIn.get(topicId)
      if (state.topic(topicId) === undefined) {
        if (deletedIn === undefined || version < deletedIn) this.deletedIn.set(topicId, version)
      } else if (deletedIn !== undefined && version > deletedIn) {
        this.world.fail(
          'identity-reused',
          `topic ${topicId} is there in version ${version}, and was gone in ${deletedIn}`,
        )
      }
    }
  }

  private lookAtRegistry(broker: Broker): void {
    const { state, version } = broker.metadata
    if (this.seen.get(broker) === state.registryVersion) return
    this.seen.set(broker, state.registryVersion)
    for (const record of state.nodes()) {
      this.compareIdentity(record)
      this.compareRemoval(record, version)
    }
  }

  private compareIdentity({ nodeId, diskId }: NodeRecord): void {
    const disk = this.diskOf.get(nodeId) ?? diskId
    const node = this.nodeOf.get(diskId) ?? nodeId
    this.diskOf.set(nodeId, disk)
    this.nodeOf.set(diskId, node)
    if (disk !== diskId) this.world.fail('identity-reused', `node ${nodeId} has disk ${diskId}, and had disk ${disk}`)
    if (node !== nodeId) this.world.fail('identity-reused', `disk ${diskId} is node ${nodeId}, and was node ${node}`)
  }

  private compareRemoval({ nodeId, state }: NodeRecord, version: number): void {
    const removedIn = this.removedIn.get(nodeId)
    if (state === 'removed') {
      if (removedIn === undefined || version < removedIn) this.removedIn.set(nodeId, version)
      if (removedIn === undefined && !this.forced.has(nodeId)) this.checkNobodyCounts(nodeId)
    } else if (removedIn !== undefined && version >= removedIn) {
      this.world.fail(
        'removed-back',
        `node ${nodeId} is ${state} in version ${version}, and was removed in ${removedIn}`,
      )
    }
  }

  /** Unless it is forced, a node goes when no partition is on it any more. */
  private checkNobodyCounts(nodeId: number): void {
    for (const { broker } of this.world.nodes) {
      for (const { key, isServing, core } of broker?.replicas() ?? []) {
        if (!isServing || key.topicId === 0 || !membersOf(core.configuration).includes(nodeId)) continue
        if (this.isOutdated(key.topicId, key.partition, core.term)) continue
        const where = `topic ${key.topicId}/${key.partition}`
        this.world.fail('removed-early', `node ${nodeId} is removed, and ${where} counts on it`)
      }
    }
  }

  /** Whether another leads in a later term. */
  private isOutdated(topicId: number, partition: number, term: number): boolean {
    return this.world.nodes.some(({ broker }) =>
      [...(broker?.replicas() ?? [])].some(
        ({ key, core }) => key.topicId === topicId && key.partition === partition && core.term > term,
      ),
    )
  }

  private lookAtGroup(node: BrokerNode, replica: ReplicaGroup): void {
    const { key, core } = replica
    if (core.role !== 'leader') return
    this.lookAtNewVoters(node, replica)
    const { nodeId } = node
    const open = core.uncommittedConfigurations
    // What was there before its own term a leader need not know to be committed.
    if (open.length < 2 || core.termAt(open.at(-1)!) !== core.term) return
    const where = `topic ${key.topicId}/${key.partition} led by node ${nodeId}`
    this.world.fail(
      'two-changes',
      `${where} has changes at ${open.join(' and ')}, and committed up to ${core.commitIndex}`,
    )
  }

  /** Whoever is to decide has what was committed when it was a learner: a group that counts on others may have to wait for them. */
  private lookAtNewVoters({ nodeId }: BrokerNode, { key, core }: ReplicaGroup): void {
    const { voters, outgoing } = core.configuration
    if (outgoing.length === 0 || this.joint.get(core) === core.configuration) return
    this.joint.set(core, core.configuration)
    // What was begun in an older term another leader has judged.
    const at = core.uncommittedConfigurations.at(-1)
    if (at === undefined || core.termAt(at) !== core.term) return
    for (const voter of voters.filter((one) => !outgoing.includes(one))) {
      const { broker } = this.world.nodes.find((node) => node.nodeId === voter) ?? { broker: null }
      // One that was restarted meanwhile may not have opened its replicas yet.
      if (broker?.status().isReady !== true) continue
      const own = [...broker.replicas()].find(({ key: { topicId, partition } }) => {
        return topicId === key.topicId && partition === key.partition
      })
      if (own !== undefined && own.core.lastIndex > 0) continue
      const where = `topic ${key.topicId}/${key.partition} led by node ${nodeId}`
      this.world.fail('voter-behind', `${where} is to count on node ${voter}, which has nothing of it`)
    }
  }
}
