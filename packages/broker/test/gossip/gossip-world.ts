// A network of gossip cores in virtual time: latency, loss, duplication, cuts, stalls, deaths and restarts, all from one seed.
import { SeededRandom } from '@millrace/protocol'
import { SEAL_HEADER_BYTES, SEAL_TAG_BYTES } from '#src/gossip/datagram-size.js'
import { GossipCore } from '#src/gossip/gossip-core.js'
import { GOSSIP_LIMITS, type GossipLimits } from '#src/gossip/gossip-limits.js'
import type {
  Address,
  Datagram,
  GossipEffect,
  GossipEvent,
  GossipMessage,
  MemberRecord,
  NodeId,
} from '#src/gossip/gossip-types.js'
import { decodeMessage, encodeMessage, messageBytes } from '#src/gossip/message-codec.js'
import { type DueEvent, EventHeap } from '../../sim/event-heap.js'

export type CoreClass = typeof GossipCore

export interface WorldOptions {
  readonly seed: number
  readonly nodes: readonly NodeId[]
  readonly limits?: Partial<GossipLimits>
  readonly coreClass?: CoreClass
  /** Of a message one way: the least, and the mean of what comes on top. */
  readonly latencyMs?: readonly [least: number, mean: number]
  readonly lossRate?: number
  readonly duplicateRate?: number
  /** Whether messages go through their bytes, as on a real network. */
  readonly encodes?: boolean
}

export interface WorldNode {
  readonly nodeId: NodeId
  core: GossipCore
  bootId: number
  isUp: boolean
  /** It does not run before this moment. */
  stalledUntilMs: number
  /** Of the process: timers and messages of an older one are dropped. */
  life: number
  sentBytes: number
  sentDatagrams: number
  streamBytes: number
}

interface Due extends DueEvent {
  readonly run: () => void
}

/** UDP and IPv4. */
const PACKET_HEADER_BYTES = 28

export class GossipWorld {
  nowMs = 0
  lossRate: number
  readonly cuts = new Set<string>()
  readonly limits: GossipLimits
  onEvent: (node: WorldNode, event: GossipEvent) => void = () => {}
  onMessage: (from: NodeId, to: NodeId, message: GossipMessage) => void = () => {}
  private readonly byId = new Map<NodeId, WorldNode>()
  private readonly random: SeededRandom
  private readonly heap = new EventHeap<Due>()
  private sequence = 0

  constructor(private readonly options: WorldOptions) {
    this.random = new SeededRandom(options.seed)
    this.limits = { ...GOSSIP_LIMITS, ...options.limits }
    this.lossRate = options.lossRate ?? 0
    for (const nodeId of options.nodes) this.add(nodeId)
  }

  get nodes(): readonly WorldNode[] {
    return [...this.byId.values()]
  }

  node(nodeId: NodeId): WorldNode {
    const node = this.byId.get(nodeId)
    if (node === undefined) throw new Error(`there is no node ${nodeId}`)
    return node
  }

  /** A node that knows only where the first ones are. */
  add(nodeId: NodeId): WorldNode {
    const node: WorldNode = {
      nodeId,
      core: this.createCore(nodeId, 1),
      bootId: 1,
      isUp: true,
      stalledUntilMs: 0,
      life: 0,
      sentBytes: 0,
      sentDatagrams: 0,
      streamBytes: 0,
    }
    this.byId.set(nodeId, node)
    this.begin(node)
    return node
  }

  kill(nodeId: NodeId): void {
    const node = this.node(nodeId)
    node.isUp = false
    node.life++
  }

  /** @param bootId one more than before unless given. */
  restart(nodeId: NodeId, bootId?: number): void {
    const node = this.node(nodeId)
    this.kill(nodeId)
    node.isUp = true
    node.bootId = bootId ?? node.bootId + 1
    node.stalledUntilMs = 0
    node.core = this.createCore(nodeId, node.bootId)
    this.begin(node)
  }

  /** It does nothing for so long, and then everything that came meanwhile at once. */
  stall(nodeId: NodeId, durationMs: number): void {
    this.node(nodeId).stalledUntilMs = this.nowMs + durationMs
  }

  /** Everybody knows everybody from the start. */
  introduce(): void {
    for (const node of this.nodes) {
      for (const other of this.nodes) {
        if (other === node) continue
        const request: GossipMessage = {
          kind: 'stateReply',
          metadata: other.core.metadata,
          leadership: other.core.leadership,
          updates: [aliveClaim(other)],
        }
        node.core.step(request, other.nodeId)
      }
      for (const effect of node.core.takeEffects()) if (effect.kind === 'member') this.onEvent(node, effect)
    }
  }

  run(durationMs: number, isDone: () => boolean = () => false): boolean {
    const endMs = this.nowMs + durationMs
    for (;;) {
      if (isDone()) return true
      const due = this.heap.first
      if (due === undefined || due.atMs > endMs) break
      this.heap.pop()
      this.nowMs = due.atMs
      due.run()
    }
    this.nowMs = endMs
    return isDone()
  }

  /** Hands a message to a node as if it had come from `from`. */
  hear(nodeId: NodeId, from: NodeId, message: GossipMessage): void {
    const node = this.node(nodeId)
    node.core.step(message, from)
    this.carryOut(node, from)
  }

  carryOut(node: WorldNode, from: NodeId = 0): void {
    for (const effect of node.core.takeEffects()) this.apply(node, effect, from)
  }

  private createCore(nodeId: NodeId, bootId: number): GossipCore {
    const random = new SeededRandom(this.random.u32())
    const Core = this.options.coreClass ?? GossipCore
    const seeds = this.options.nodes.slice(0, 3).filter((seed) => seed !== nodeId)
    return new Core({
      nodeId,
      bootId,
      record: recordOf(nodeId),
      seeds: seeds.map(addressOfNode),
      limits: this.limits,
      random: (bound) => random.below(bound),
      registry: null,
      nowMs: this.nowMs,
    })
  }

  private begin(node: WorldNode): void {
    const { life } = node
    const tick = (): void => {
      if (node.life !== life) return
      const late = node.stalledUntilMs - this.nowMs
      if (late > 0) {
        this.schedule(late, tick)
        return
      }
      node.core.tick(this.nowMs)
      this.carryOut(node)
      this.schedule(this.limits.tickMs, tick)
    }
    this.schedule(this.random.fraction() * this.limits.tickMs, tick)
  }

  private apply(node: WorldNode, effect: GossipEffect, from: NodeId): void {
    switch (effect.kind) {
      case 'send': {
        const to = effect.address === null ? from : nodeAt(effect.address)
        this.sendDatagram(node, to, effect.message)
        break
      }
      case 'exchange': {
        const to = effect.address === null ? from : nodeAt(effect.address)
        // A stream is opened first.
        if (to !== 0) this.transmit(node, to, effect.message, 3)
        break
      }
      case 'answer':
        this.transmit(node, effect.to, effect.message, 1)
        break
      default:
        this.onEvent(node, effect)
    }
  }

  private sendDatagram(node: WorldNode, to: NodeId, message: Datagram): void {
    node.sentDatagrams++
    const byteLength = SEAL_HEADER_BYTES + messageBytes(message) + SEAL_TAG_BYTES
    if (byteLength > this.limits.datagramBytes) throw new Error(`a datagram of ${byteLength} bytes`)
    node.sentBytes += byteLength + PACKET_HEADER_BYTES
    this.onMessage(node.nodeId, to, message)
    const copies = this.random.fraction() < (this.options.duplicateRate ?? 0) ? 2 : 1
    for (let copy = 0; copy < copies; copy++) {
      if (this.random.fraction() >= this.lossRate) this.deliver(node, to, message, this.latency())
    }
  }

  private transmit(node: WorldNode, to: NodeId, message: GossipMessage, trips: number): void {
    node.streamBytes += messageBytes(message) + SEAL_HEADER_BYTES + SEAL_TAG_BYTES
    this.onMessage(node.nodeId, to, message)
    this.deliver(node, to, message, this.latency() * trips)
  }

  private deliver(node: WorldNode, to: NodeId, message: GossipMessage, afterMs: number): void {
    const target = this.byId.get(to)
    if (target === undefined) return
    const { life } = target
    const arrive = (): void => {
      if (!target.isUp || target.life !== life || this.cuts.has(`${node.nodeId}>${to}`)) return
      const late = target.stalledUntilMs - this.nowMs
      if (late > 0) {
        // After the tick that its timers run first.
        this.schedule(late + 0.01, arrive)
        return
      }
      target.core.step(this.options.encodes ? decodeMessage(encodeMessage(message)) : message, node.nodeId)
      this.carryOut(target, node.nodeId)
    }
    this.schedule(afterMs, arrive)
  }

  latency(): number {
    const [least, mean] = this.options.latencyMs ?? [0.2, 0.3]
    return least - Math.log(1 - this.random.fraction()) * mean
  }

  schedule(delayMs: number, run: () => void): void {
    this.heap.push({ atMs: this.nowMs + delayMs, sequence: this.sequence++, run })
  }
}

export function addressOfNode(nodeId: NodeId): Address {
  return { host: `node-${nodeId}`, port: 7420 }
}

function nodeAt({ host }: Address): NodeId {
  return Number(host.slice('node-'.length))
}

export function recordOf(nodeId: NodeId, changes: Partial<MemberRecord> = {}): MemberRecord {
  return {
    client: addressOfNode(nodeId),
    peer: addressOfNode(nodeId),
    shards: 2,
    rack: `rack-${nodeId % 3}`,
    version: '0.1.0',
    load: { bytesPerSecond: 0, freeDiskBytes: 1e12, partitionsLed: 0 },
    ...changes,
  }
}

function aliveClaim({ core }: WorldNode): GossipMessage['updates'][number] {
  const { nodeId, bootId, incarnation, record } = core.member(core.nodeId)!
  return {
    nodeId,
    bootId,
    incarnation,
    state: 'alive',
    accusers: [],
    profile: { bootId, incarnation, record: record! },
  }
}
