// A fake cluster whose partitions are replicated as Raft promises, seen from outside: a leader has a suffix that is not
// committed, another leader keeps some prefix of it, an old leader may not know for a while that it is one, and nobody
// is told of a new one at the same moment. What is committed stays. Everything is decided by one seed.
import {
  cursorOpen,
  cursorOpened,
  ERROR_TABLE,
  type ErrorName,
  type FrameHeader,
  mapSubscribe,
  type ProduceResult,
  produce,
  produceReply,
  producerName,
  Reader,
  type Route,
  readBatchHeader,
  supersedes,
} from '@millrace/protocol'
import { type FakeBroker, FakeCluster, type FakeConnection } from './fake-broker.js'
import type { FakeWorld } from './fake-world.js'

/** How much goes wrong, as shares of what could. */
export interface Trouble {
  /** A connection is cut when a batch has come, before or after it is appended. */
  readonly cut: number
  /** A batch is refused as overloaded. */
  readonly overload: number
  /** A push of a new leader is lost, or comes twice. */
  readonly push: number
  /** An old leader goes on for a while as if it were one. */
  readonly zombie: number
}

type Result = { readonly code: ErrorName | null; readonly baseOffset: number | null }
type Answer = (result: Result) => void

interface Entry {
  readonly producer: string
  readonly epoch: number
  readonly sequence: number
  readonly bytes: Uint8Array
  answers: Answer[]
}

/** What one node believes of one partition. */
interface View {
  route: Route
  /** It serves as the leader, rightly or not. */
  leads: boolean
  /** Appended and not committed. */
  pending: Entry[]
  /** Records that it knows to be committed. */
  end: number
}

interface Known {
  epoch: number
  last: number
  readonly offsets: Map<number, number>
}

const NONE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }
const codeOf = (name: ErrorName): number => ERROR_TABLE[name].code

export class ReplicatedPartition {
  readonly views = new Map<number, View>()
  readonly committed = new Map<string, Known>()
  route: Route

  constructor(
    readonly cluster: ReplicatedCluster,
    readonly topicId: number,
    readonly partition: number,
    route: Route,
  ) {
    this.route = route
    for (const { nodeId } of cluster.brokers) {
      this.views.set(nodeId, { route, leads: nodeId === route.nodeId, pending: [], end: 0 })
    }
  }

  view(nodeId: number): View {
    return this.views.get(nodeId)!
  }

  append(nodeId: number, bytes: Uint8Array, answer: Answer): void {
    const result = this.#append(nodeId, bytes, answer)
    if (result !== null) answer(result)
  }

  /** Null when the answer comes with the commit. */
  #append(nodeId: number, bytes: Uint8Array, answer: Answer): Result | null {
    const view = this.view(nodeId)
    if (!view.leads) return { code: 'NOT_LEADER', baseOffset: null }
    const header = readBatchHeader(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), 0)
    const producer = producerName(header.producer)
    const { epoch, sequence } = header
    const waiting = view.pending.find(
      (entry) => entry.producer === producer && entry.epoch === epoch && entry.sequence === sequence,
    )
    if (waiting !== undefined) {
      waiting.answers.push(answer)
      return null
    }
    const verdict = this.#check(view, producer, epoch, sequence)
    if (typeof verdict === 'string') return { code: verdict, baseOffset: null }
    if (verdict !== null) return { code: null, baseOffset: verdict }
    view.pending.push({ producer, epoch, sequence, bytes, answers: [answer] })
    const { term } = view.route
    this.cluster.world.at(1 + this.cluster.below(25), () => this.#commit(nodeId, term))
    return null
  }

  /** The offset of a duplicate, a refusal, or null for a batch that is next. */
  #check(view: View, producer: string, epoch: number, sequence: number): number | ErrorName | null {
    const pending = view.pending.filter((entry) => entry.producer === producer)
    const known = this.committed.get(producer)
    const newest = pending.at(-1)
    const lastEpoch = newest?.epoch ?? known?.epoch
    if (lastEpoch === undefined) return sequence === 0 ? null : 'UNKNOWN_PRODUCER'
    if (epoch < lastEpoch) return 'PRODUCER_FENCED'
    if (epoch > lastEpoch) return sequence === 0 ? null : 'OUT_OF_ORDER_SEQUENCE'
    if (known?.epoch === epoch) {
      const offset = known.offsets.get(sequence)
      if (offset !== undefined) return offset
    }
    const last = newest?.epoch === epoch ? newest.sequence : known!.last
    return sequence === last + 1 ? null : 'OUT_OF_ORDER_SEQUENCE'
  }

  /** Commits what stands first at the leader, unless it leads no more. */
  #commit(nodeId: number, term: number): void {
    const view = this.view(nodeId)
    if (this.route.nodeId !== nodeId || this.route.term !== term || !view.leads) return
    const entry = view.pending.shift()
    if (entry === undefined) return
    const baseOffset = this.cluster.append(this.topicId, this.partition, entry.bytes)
    const known = this.committed.get(entry.producer)
    const offsets = known?.epoch === entry.epoch ? known.offsets : new Map<number, number>()
    offsets.set(entry.sequence, baseOffset)
    this.committed.set(entry.producer, { epoch: entry.epoch, last: entry.sequence, offsets })
    view.end = this.cluster.partition(this.topicId, this.partition).end
    for (const answer of entry.answers) answer({ code: null, baseOffset })
  }

  /** Another node leads from now on, with some prefix of what the old one had not committed. */
  elect(nodeId: number): void {
    const { cluster, topicId, partition } = this
    const old = this.route
    const oldView = this.views.get(old.nodeId)
    const kept = (oldView?.pending ?? []).slice(0, cluster.below((oldView?.pending.length ?? 0) + 1))
    const route: Route = { nodeId, shard: 0, placement: 0, term: old.term + 1 }
    this.route = route
    cluster.partition(topicId, partition).term = route.term
    const view = this.view(nodeId)
    const pending = kept.map((entry) => ({ ...entry, answers: [] }))
    if (oldView !== undefined && oldView !== view) this.#depose(old.nodeId, oldView)
    else if (oldView !== undefined) this.#refuseAll(oldView)
    cluster.freezeCursors(old.nodeId, this)
    // Cursors of an earlier reign of the new leader have ended with it.
    cluster.closeCursors(nodeId, this, route)
    Object.assign(view, { route, leads: true, pending, end: cluster.partition(topicId, partition).end })
    // What it kept is committed with the first entry of its own term, before it serves anybody.
    for (let i = 0; i < kept.length; i++) this.#commit(nodeId, route.term)
    cluster.announce(this, route)
  }

  #depose(nodeId: number, view: View): void {
    const { cluster } = this
    const stepDown = (): void => {
      // It knows the new leader, or only that there is one, or not even that: then it goes on naming itself.
      const told = [this.route, { ...NONE, term: view.route.term + 1 }, view.route][cluster.below(3)]!
      if (!view.leads || this.route.nodeId === nodeId) return
      view.leads = false
      if (supersedes(told, view.route)) view.route = told
      this.#refuseAll(view)
      cluster.closeCursors(nodeId, this, view.route)
      // Who does not know the leader hears of it soon.
      cluster.announce(this, this.route)
    }
    if (cluster.chance(cluster.trouble.zombie)) cluster.world.at(cluster.below(400), stepDown)
    else stepDown()
  }

  #refuseAll(view: View): void {
    const { pending } = view
    view.pending = []
    for (const { answers } of pending) for (const answer of answers) answer({ code: 'NOT_LEADER', baseOffset: null })
  }
}

export class ReplicatedCluster extends FakeCluster {
  readonly replicated = new Map<string, ReplicatedPartition>()
  /** Bytes asked for beyond what a node knows to be committed: never happens unless a client goes back. */
  readonly ahead: string[] = []
  #seed: number

  constructor(
    world: FakeWorld,
    seed: number,
    public trouble: Trouble,
  ) {
    super(world)
    this.#seed = seed | 0
  }

  /** Three brokers or more, and one topic. */
  begin(brokers: number, topic: string, partitions: number): void {
    for (let i = 0; i < brokers; i++) {
      this.addBroker().intercept = (connection, header, payload) => this.#take(connection, header, payload)
    }
    const { topicId, routes } = this.addTopic(topic, partitions, {}, (partition) => 1 + (partition % brokers))
    routes.forEach((route, partition) => {
      this.replicated.set(`${topicId}/${partition}`, new ReplicatedPartition(this, topicId, partition, route))
    })
  }

  random(): number {
    this.#seed = (this.#seed + 0x6d2b79f5) | 0
    let t = this.#seed
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }

  below(bound: number): number {
    return Math.floor(this.random() * bound)
  }

  chance(share: number): boolean {
    return this.random() < share
  }

  at(topicId: number, partition: number): ReplicatedPartition {
    return this.replicated.get(`${topicId}/${partition}`)!
  }

  /** Each broker hears of a new leader in its own time, and pushes it to its clients, or forgets to. */
  announce(partition: ReplicatedPartition, route: Route): void {
    const { topicId } = partition
    for (const broker of this.brokers) {
      this.world.at(this.below(40), () => {
        const view = partition.view(broker.nodeId)
        if (!supersedes(route, view.route)) return
        if (!view.leads) view.route = route
        const change = { routes: [{ topicId, partition: partition.partition, route }] }
        const lost = this.chance(this.trouble.push / 2)
        for (const connection of broker.connections) {
          if (lost) connection.sequence += connection.subscription === null ? 0 : 1
          else connection.publish(change)
          if (this.chance(this.trouble.push / 2)) connection.publish(change)
        }
      })
    }
  }

  #cursorsOf(nodeId: number, { topicId, partition }: ReplicatedPartition) {
    const broker = this.brokers.find((candidate) => candidate.nodeId === nodeId)
    return (broker?.connections ?? []).flatMap((connection) =>
      [...connection.cursors]
        .filter(([, { open }]) => open.topicId === topicId && open.partition === partition)
        .map(([id, cursor]) => ({ connection, id, cursor })),
    )
  }

  /** An old leader commits nothing, so it has nothing to push. */
  freezeCursors(nodeId: number, partition: ReplicatedPartition): void {
    for (const { cursor } of this.#cursorsOf(nodeId, partition)) cursor.sent = Number.POSITIVE_INFINITY
  }

  closeCursors(nodeId: number, partition: ReplicatedPartition, route: Route): void {
    for (const { connection, id, cursor } of this.#cursorsOf(nodeId, partition)) {
      connection.closeCursor(id, cursor.open, 'MOVED', route)
    }
  }

  #take(connection: FakeConnection, header: FrameHeader, payload: Uint8Array): boolean {
    if (header.kind === produce.kind) this.#produce(connection, header.id, payload)
    else if (header.kind === cursorOpen.kind) return this.#open(connection, header.id, payload)
    else if (header.kind === mapSubscribe.kind) this.#subscribe(connection, header.id)
    else return false
    return true
  }

  /** The map as this node knows it. */
  #subscribe(connection: FakeConnection, id: number): void {
    const all = this.topics
    const { nodeId } = connection.broker
    this.topics = all.map((topic) => ({
      ...topic,
      routes: topic.routes.map((_, partition) => this.at(topic.topicId, partition).view(nodeId).route),
    }))
    connection.subscription = id
    connection.snapshot()
    this.topics = all
  }

  #produce(connection: FakeConnection, id: number, payload: Uint8Array): void {
    const { entries, batchesStart } = produce.decode(new Reader(payload))
    const { nodeId } = connection.broker
    const results: ProduceResult[] = []
    let left = entries.length
    let at = batchesStart
    entries.forEach(({ topicId, partition, batchLength }, i) => {
      const bytes = payload.slice(at, at + batchLength)
      at += batchLength
      const log = this.at(topicId, partition)
      const answer: Answer = ({ code, baseOffset }) => {
        const { route } = log.view(nodeId)
        results[i] = { code: code === null ? 0 : codeOf(code), baseOffset, appendTime: 1, route, detail: '' }
        if (--left > 0) return
        if (this.chance(this.trouble.cut)) connection.cut()
        else connection.send(produceReply, { results }, id)
      }
      if (this.chance(this.trouble.cut)) connection.cut()
      else if (this.chance(this.trouble.overload)) answer({ code: 'OVERLOADED', baseOffset: null })
      else log.append(nodeId, bytes, answer)
    })
  }

  #open(connection: FakeConnection, id: number, payload: Uint8Array): boolean {
    const open = cursorOpen.decode(new Reader(payload))
    const { nodeId } = connection.broker
    const log = this.at(open.topicId, open.partition)
    const view = log.view(nodeId)
    if (!view.leads) {
      connection.closeCursor(id, open, 'MOVED', view.route)
      return true
    }
    if (open.start === 'offset' && open.position > view.end) {
      this.ahead.push(`${open.topicId}/${open.partition} at ${open.position}, node ${nodeId} ends at ${view.end}`)
    }
    if (log.route.nodeId === nodeId) return this.#atLeader(connection, id, payload, log)
    // A leader of old opens the cursor and has nothing to say.
    const cursor = { open, credit: open.credit, sent: Number.POSITIVE_INFINITY, next: 0 }
    connection.cursors.set(id, cursor)
    const bounds = { startOffset: open.position, logStartOffset: 0, highWatermark: view.end }
    connection.send(cursorOpened, { ...bounds, route: view.route }, id)
    return true
  }

  /** Handled as by any fake broker, for which the leader is the one in `topics`. */
  #atLeader(connection: FakeConnection, id: number, payload: Uint8Array, log: ReplicatedPartition): boolean {
    this.topics = this.topics.map((topic) =>
      topic.topicId === log.topicId
        ? {
            ...topic,
            routes: topic.routes.map((route, partition) => (partition === log.partition ? log.route : route)),
          }
        : topic,
    )
    connection.handle({ kind: cursorOpen.kind, id, flags: 0, length: payload.length, timeMs: 0 }, payload)
    return true
  }

  /** Cuts every connection of a broker, and refuses dials for a while. */
  crash(broker: FakeBroker, downMs: number): void {
    broker.stop()
    this.world.at(downMs, () => broker.start())
  }
}
