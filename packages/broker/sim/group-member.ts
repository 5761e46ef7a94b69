// A member of a consumer group that speaks raw messages: it joins, beats, commits, gives back what is revoked, and joins anew
// when it was expired. What it was promised is written down.
import {
  ADMIN_OPERATIONS,
  ANY_CLUSTER,
  type AssignedPartition,
  admin,
  adminReply,
  encodeFrame,
  errorName,
  FrameDecoder,
  type GroupPlace,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
  hello,
  MAX_FRAME_BYTES,
  type MessageCodec,
  partitionOfKey,
  Reader,
} from '@millrace/protocol'
import { decodeFields, encodeMessagePack } from '#src/message-pack.js'
import { BROKER_PORT } from './broker-node.js'
import type { GroupWatch } from './group-watch.js'
import type { SeededRandom } from './random.js'
import type { SimulatedClientEnvironment } from './simulated-client-environment.js'

const ANSWER_MS = 3_000
const RETRY_MS = 20
const LEASE_MS = 2_000

export interface GroupMemberWorld {
  readonly environment: SimulatedClientEnvironment
  readonly random: SeededRandom
  readonly watch: GroupWatch
  readonly hosts: () => readonly string[]
  readonly group: string
  readonly topicId: number
  sleep(ms: number): Promise<void>
}

export class GroupMember {
  private connection: Connection | null = null
  private place: Omit<GroupPlace, 'memberId'> | null = null
  private id = 0n
  private epoch = 0
  private version = 0
  private assigned: readonly AssignedPartition[] = []
  private isOver = false
  private isSilent = false
  /** It has ended, and its connections are closed. */
  isDone = false
  commits = 0

  constructor(private readonly world: GroupMemberWorld) {}

  /** Leaves when it has done what it is doing. */
  stop(): void {
    this.isOver = true
  }

  /** Says nothing for a while, longer than its lease, and goes on as if nothing had been. */
  async fallSilent(): Promise<void> {
    this.isSilent = true
    await this.world.sleep(2 * LEASE_MS)
    this.isSilent = false
  }

  async run(): Promise<void> {
    const { random, sleep } = this.world
    while (!this.isOver) {
      if (this.isSilent) {
        await sleep(RETRY_MS)
        continue
      }
      const code = await this.step().catch(() => 'LOST')
      if (code === 'LOST' || code === 'NOT_LEADER') this.moveOn()
      else if (code === 'UNKNOWN_MEMBER' || code === 'MEMBER_FENCED') this.epoch = 0
      await sleep(code === null ? random.exponential(20) : RETRY_MS)
    }
    await this.commit(true).catch(() => null)
    this.connection?.close()
    this.isDone = true
  }

  /** Another broker may know more. */
  private moveOn(): void {
    this.connection?.close()
    this.connection = null
  }

  private async step(): Promise<string | null> {
    const { environment, random, hosts } = this.world
    const connection = this.connection ?? (await Connection.open(environment, random.pick(hosts())))
    this.connection = connection
    const place = this.place ?? (await this.findPlace(connection))
    this.place = place
    if (this.epoch === 0) return this.join()
    return this.world.random.chance(0.5) ? this.beat() : this.commit(false)
  }

  private async findPlace(connection: Connection): Promise<Omit<GroupPlace, 'memberId'>> {
    const payload = encodeMessagePack({})
    const message = { operation: ADMIN_OPERATIONS.createGroupsTopic, mapVersion: 0, payload }
    const reply = await connection.request(admin, message, adminReply)
    if (reply.code !== 0) throw new Error(reply.detail)
    const { topicId, partitions } = decodeFields(reply.payload)
    const partition = partitionOfKey(new TextEncoder().encode(this.world.group), Number(partitions))
    return { topicId: Number(topicId), partition, routeVersion: { term: 0, placement: 0 } }
  }

  private async join(): Promise<string | null> {
    const { environment, group, topicId } = this.world
    const bytes = new Uint8Array(8)
    environment.fillRandom(bytes)
    this.id = new DataView(bytes.buffer).getBigUint64(0) | 1n
    this.version = 0
    this.assigned = []
    const fields = { leaseMs: LEASE_MS, group, memberName: '', clientId: 'sim', topicIds: [topicId] }
    const reply = await this.ask(groupJoin, { place: this.own, ...fields }, groupJoined)
    this.epoch = reply.memberEpoch
    return errorName(reply.code)
  }

  private async beat(): Promise<string | null> {
    const { id, epoch: memberEpoch, version } = this
    const { group, random } = this.world
    const message = { place: this.own, memberEpoch, version, waitMs: random.chance(0.5) ? 200 : 0, group }
    const reply = await this.ask(groupBeat, message, groupBeatReply)
    if (reply.code !== 0 || id !== this.id) return errorName(reply.code)
    this.version = reply.version
    this.assigned = reply.assigned
    for (const entry of this.assigned) this.world.watch.assigned(group, entry, id)
    return null
  }

  /** Goes on in some partitions, and gives back those that others wait for. */
  private async commit(leaves: boolean): Promise<string | null> {
    if (this.epoch === 0) return null
    const { group, random, watch } = this.world
    const some = this.assigned.filter(({ isRevoking }) => isRevoking || random.chance(0.7))
    const entries = some.map(({ isRevoking, ...entry }) => {
      return { ...entry, offset: (entry.offset ?? 0) + random.integer(0, 5), term: 1, releases: isRevoking }
    })
    const { epoch: memberEpoch } = this
    const reply = await this.ask(
      groupCommit,
      { place: this.own, memberEpoch, leaves, group, entries },
      groupCommitReply,
    )
    if (reply.code !== 0) return errorName(reply.code)
    this.commits++
    const done = entries.filter((_, at) => reply.codes[at] === 0)
    for (const { partition, offset } of done) watch.acknowledged(group, partition, offset)
    this.assigned = this.assigned.map((entry) => {
      return { ...entry, offset: done.find(({ partition }) => partition === entry.partition)?.offset ?? entry.offset }
    })
    return null
  }

  private get own(): GroupPlace {
    return { ...this.place!, memberId: this.id }
  }

  private ask<Q, A>(codec: MessageCodec<Q>, message: Q, reply: MessageCodec<A>): Promise<A> {
    return this.connection!.request(codec, message, reply)
  }
}

interface Waiting {
  readonly kind: number
  readonly resolve: (payload: Uint8Array) => void
  readonly reject: (error: Error) => void
}

/** Frames over a simulated link. Whatever goes wrong ends it. */
class Connection {
  private readonly waiting = new Map<number, Waiting>()
  private next = 1
  private destroy: () => void = () => {}
  private write: (bytes: Uint8Array) => void = () => {}

  private constructor(private readonly environment: SimulatedClientEnvironment) {}

  static async open(environment: SimulatedClientEnvironment, host: string): Promise<Connection> {
    const connection = new Connection(environment)
    await new Promise<void>((resolve, reject) => {
      const decoder = new FrameDecoder(MAX_FRAME_BYTES, (header, payload) => connection.take(header, payload))
      const link = environment.dial(host, BROKER_PORT, {
        onOpen: () => {
          timer.cancel()
          resolve()
        },
        onBytes: (chunk) => decoder.push(chunk),
        onDrain: () => {},
        onClosed: (error) => {
          timer.cancel()
          reject(error ?? new Error('closed'))
          connection.close()
        },
      })
      const timer = environment.timer(ANSWER_MS, () => {
        link.destroy()
        reject(new Error('no connection in time'))
      })
      connection.destroy = () => link.destroy()
      connection.write = (bytes) => link.write([bytes])
    })
    const greeting = { minVersion: 1, maxVersion: 1, shard: 0, features: 0, clusterId: ANY_CLUSTER, nodeId: 0 }
    const names = { clientId: 'member', software: 'sim', authentication: new Uint8Array(0) }
    connection.write(encodeFrame(hello, { ...greeting, ...names }, { id: connection.next++ }).slice())
    return connection
  }

  request<Q, A>(codec: MessageCodec<Q>, message: Q, reply: MessageCodec<A>): Promise<A> {
    const id = this.next++
    return new Promise<A>((resolve, reject) => {
      const timer = this.environment.timer(ANSWER_MS, () => {
        this.waiting.delete(id)
        reject(new Error('no answer in time'))
      })
      this.waiting.set(id, {
        kind: reply.kind,
        resolve: (payload) => {
          timer.cancel()
          resolve(reply.decode(new Reader(payload)))
        },
        reject: (error) => {
          timer.cancel()
          reject(error)
        },
      })
      this.write(encodeFrame(codec, message, { id }).slice())
    })
  }

  private take(header: { readonly id: number; readonly kind: number }, payload: Uint8Array): void {
    const waiting = this.waiting.get(header.id)
    this.waiting.delete(header.id)
    if (waiting === undefined) return
    if (waiting.kind === header.kind) waiting.resolve(payload.slice())
    else waiting.reject(new Error(`an answer of kind ${header.kind}`))
  }

  close(): void {
    this.destroy()
    for (const { reject } of this.waiting.values()) reject(new Error('closed'))
    this.waiting.clear()
  }
}
