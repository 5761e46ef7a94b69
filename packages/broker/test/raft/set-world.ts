// Three nodes with a few groups, real cores and real sets of groups at rest, over connections that keep order, stand still and
// break: every event under the caller's hand.
import type { RaftGroup } from '@millrace/protocol'
import type { FollowedSet } from '#src/raft/followed-set.js'
import type { LedSet } from '#src/raft/led-set.js'
import type { Effect, NodeId } from '#src/raft/raft-types.js'
import type { SetGroup, SetHeartbeat, SetHeartbeatReply, SetLimits } from '#src/raft/set-types.js'
import { votersOnly } from './model-cluster.js'
import { type CoreClass, ModelNode, TEST_LIMITS, type TestEntry, type TestMessage } from './model-node.js'
import { Safety } from './safety.js'

export interface SetClasses {
  readonly coreClass: CoreClass
  readonly ledSetClass: new (peer: NodeId, limits: SetLimits, firstEpoch: number) => LedSet
  readonly followedSetClass: new (leader: NodeId, limits: SetLimits) => FollowedSet
}

type Sent =
  | { readonly kind: 'raft'; readonly group: number; readonly message: TestMessage }
  | { readonly kind: 'beat'; readonly beat: SetHeartbeat }
  | { readonly kind: 'reply'; readonly reply: SetHeartbeatReply }

const LIMITS: SetLimits = {
  heartbeatTicks: TEST_LIMITS.heartbeatTicks,
  electionMinTicks: TEST_LIMITS.electionMinTicks,
  maxGroups: 2,
}

/** One group on one node, as its sets see it. */
class Replica implements SetGroup {
  constructor(
    readonly key: RaftGroup,
    readonly node: ModelNode,
  ) {}

  restWith(leader: NodeId, term: number, index: number): boolean {
    return this.node.core?.restWith(leader, term, index) ?? false
  }

  followerRests(follower: NodeId, term: number): void {
    this.node.core?.followerRests(follower, term)
  }

  wake(peer: NodeId, silentTicks: number): void {
    this.node.core?.wake(peer, silentTicks)
    this.node.settle()
  }
}

export class SetHost {
  readonly replicas: Replica[]
  readonly led = new Map<NodeId, LedSet>()
  readonly followed = new Map<NodeId, FollowedSet>()
  starts = 0
  isUp = false
  diskWorks = true

  constructor(
    readonly nodeId: NodeId,
    private readonly world: SetWorld,
    groups: number,
  ) {
    const { coreClass } = world.classes
    const configuration = votersOnly(1, 2, 3)
    this.replicas = Array.from({ length: groups }, (_, partition) => {
      const onEffect = (_node: ModelNode, effect: Effect<TestEntry>) => this.onEffect(partition, effect)
      const random = world.random
      const options = { nodeId, configuration, limits: TEST_LIMITS, random, coreClass, announcesCommits: false }
      return new Replica({ topicId: 1, partition, lane: 0 }, new ModelNode(options, { onEffect }))
    })
  }

  start(): void {
    this.starts++
    this.isUp = true
    this.led.clear()
    this.followed.clear()
    for (const { node } of this.replicas) node.start()
  }

  stop(): void {
    this.isUp = false
    for (const { node } of this.replicas) node.crash()
  }

  tick(): void {
    for (const [peer, set] of this.led) {
      set.tick(this.diskWorks, (beat) => this.world.send(this.nodeId, peer, { kind: 'beat', beat }))
    }
    for (const set of this.followed.values()) set.tick()
    for (const { node } of this.replicas) {
      if (node.core?.isAtRest === true) continue
      node.core?.tick()
      node.settle()
    }
  }

  /** The connection to the node is lost. */
  lost(peer: NodeId): void {
    this.led.get(peer)?.lost()
    this.followed.get(peer)?.lost()
    for (const { node } of this.replicas) {
      node.core?.unreachable(peer)
      node.settle()
    }
  }

  take(from: NodeId, sent: Sent): void {
    if (sent.kind === 'raft') {
      const { node } = this.replicas[sent.group]!
      node.core?.step(sent.message)
      node.settle()
    } else if (sent.kind === 'beat') {
      const set = this.followedOf(from)
      const reply = set.heard(sent.beat, this.diskWorks, this.find)
      if (!this.world.send(this.nodeId, from, { kind: 'reply', reply })) set.lost()
    } else {
      this.led.get(from)?.answered(sent.reply, this.find)
    }
  }

  readonly find = (key: RaftGroup): SetGroup | undefined => this.replicas[key.partition]

  private onEffect(partition: number, effect: Effect<TestEntry>): void {
    const replica = this.replicas[partition]!
    const { node } = replica
    const { safety } = this.world
    if (effect.kind === 'send') {
      const sent: Sent = { kind: 'raft', group: partition, message: effect.message }
      this.world.send(this.nodeId, effect.message.to, sent)
    } else if (effect.kind === 'rest') {
      const isTaken = this.ledWith(effect.follower).enter(replica, effect.term, effect.index)
      if (!isTaken) node.core?.wake(effect.follower, 0)
    } else if (effect.kind === 'wake') {
      if (effect.isLed) this.led.get(effect.peer)?.leave(replica)
      else this.followed.get(effect.peer)?.leave(replica)
    } else if (effect.kind === 'role' && effect.role === 'leader') {
      safety[partition]!.becameLeader(node, node.logical())
    } else if (effect.kind === 'commit') {
      safety[partition]!.commit(node, node.logical(), effect.index)
    }
  }

  private ledWith(peer: NodeId): LedSet {
    const known = this.led.get(peer)
    if (known !== undefined) return known
    const made = new this.world.classes.ledSetClass(peer, LIMITS, this.starts * 2 ** 32)
    this.led.set(peer, made)
    return made
  }

  private followedOf(leader: NodeId): FollowedSet {
    const known = this.followed.get(leader)
    if (known !== undefined) return known
    const made = new this.world.classes.followedSetClass(leader, LIMITS)
    this.followed.set(leader, made)
    return made
  }
}

export class SetWorld {
  readonly hosts: readonly SetHost[]
  readonly safety: readonly Safety[]
  /** What is on its way from one node to another, in order. */
  readonly links = new Map<string, Sent[]>()
  /** Links on which nothing arrives, and nobody notices. */
  readonly stalled = new Set<string>()
  beats = 0
  /** Takes what is sent between nodes away instead; for tests of what comes late. */
  onBeat: (from: NodeId, to: NodeId, sent: Sent) => boolean = () => true

  constructor(
    readonly classes: SetClasses,
    readonly random: (bound: number) => number,
    groups: number,
  ) {
    this.safety = Array.from({ length: groups }, () => new Safety())
    this.hosts = [1, 2, 3].map((nodeId) => new SetHost(nodeId, this, groups))
    for (const host of this.hosts) host.start()
  }

  host(nodeId: NodeId): SetHost {
    return this.hosts[nodeId - 1]!
  }

  send(from: NodeId, to: NodeId, sent: Sent): boolean {
    if (!this.host(to).isUp) return false
    if (sent.kind === 'beat') this.beats++
    if (!this.onBeat(from, to, sent)) return true
    const link = this.links.get(`${from}>${to}`)
    if (link === undefined) this.links.set(`${from}>${to}`, [sent])
    else link.push(sent)
    return true
  }

  /** Hands over the first message of a link. @returns whether there was one that arrives. */
  deliver(name: string): boolean {
    const link = this.links.get(name)
    if (link === undefined || link.length === 0 || this.stalled.has(name)) return false
    const [from, to] = name.split('>').map(Number)
    const sent = link.shift()!
    if (this.host(to!).isUp) this.host(to!).take(from!, sent)
    return true
  }

  deliverAll(): void {
    for (let steps = 0; [...this.links.keys()].some((name) => this.deliver(name)); steps++) {
      if (steps > 20_000) throw new Error('the network does not come to rest')
    }
  }

  /** The connection breaks, with everything on it; the one who sends on it notices. */
  break(from: NodeId, to: NodeId): void {
    this.links.delete(`${from}>${to}`)
    if (this.host(from).isUp) this.host(from).lost(to)
  }

  crash(nodeId: NodeId): void {
    this.host(nodeId).stop()
    for (const { nodeId: other } of this.hosts) {
      this.links.delete(`${nodeId}>${other}`)
      if (other !== nodeId) this.break(other, nodeId)
    }
  }

  /** Everybody ticks and everything arrives, so many times. */
  run(ticks: number): void {
    for (let at = 0; at < ticks; at++) {
      for (const host of this.hosts) if (host.isUp) host.tick()
      this.deliverAll()
    }
  }

  heal(): void {
    this.stalled.clear()
    for (const host of this.hosts) {
      host.diskWorks = true
      if (!host.isUp) host.start()
    }
  }

  /** Why a healed world is not as it should be; null when it is: one leader for each group, which all follow at rest. */
  complaint(): string | null {
    for (let group = 0; group < this.safety.length; group++) {
      const cores = this.hosts.map(({ replicas }) => replicas[group]!.node.running)
      const leaders = cores.filter(({ role }) => role === 'leader')
      if (leaders.length !== 1) return `group ${group} has ${leaders.length} leaders`
      const { nodeId, term, commitIndex } = leaders[0]!
      for (const core of cores) {
        const isSame = core.leader === nodeId && core.term === term && core.commitIndex === commitIndex
        if (!isSame) return `node ${core.nodeId} does not follow ${nodeId} in group ${group}`
        if (!core.isAtRest) return `group ${group} does not rest on node ${core.nodeId}`
      }
    }
    return null
  }
}
