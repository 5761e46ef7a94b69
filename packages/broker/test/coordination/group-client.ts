// Members of consumer groups that speak raw messages, and find their coordinator by trying.
import {
  CODE_OK,
  type ErrorName,
  errorName,
  type GroupBeatReply,
  type GroupCommitReply,
  type GroupJoined,
  type GroupPlace,
  groupBeat,
  groupBeatReply,
  groupCommit,
  groupCommitReply,
  groupJoin,
  groupJoined,
  type MessageCodec,
  partitionOfKey,
} from '@millrace/protocol'
import type { Fields } from '#src/message-pack.js'
import type { TestCluster } from '#src/testing.js'
import { RawClient } from '../server/raw-client.js'

/** What passes by itself while leaders change. */
const PASSING: readonly (ErrorName | null)[] = ['NOT_LEADER', 'COORDINATOR_LOADING', 'SHUTTING_DOWN', 'UNKNOWN_TOPIC']
const PATIENCE_MS = 20_000
const UTF8 = new TextEncoder()

const pause = (ms: number): Promise<void> => new Promise((resolve) => setTimeout(resolve, ms))

export class GroupsClient {
  readonly #connections = new Map<number, Promise<RawClient>>()
  #topic: { readonly topicId: number; readonly partitions: number } | null = null

  constructor(private readonly cluster: TestCluster) {}

  /** A connection to a broker, made anew when it was lost. */
  async to(nodeId: number): Promise<RawClient> {
    const known = await this.#connections.get(nodeId)?.catch(() => undefined)
    if (known !== undefined && !known.closed) return known
    const opening = RawClient.open(this.cluster.broker(nodeId).address)
    opening.catch(() => undefined)
    this.#connections.set(nodeId, opening)
    return opening
  }

  async close(): Promise<void> {
    for (const connection of this.#connections.values()) {
      await connection.then((client) => client.socket.destroy()).catch(() => undefined)
    }
  }

  /** Any broker that runs. */
  get #anyNode(): number {
    return this.cluster.brokers.find(({ isRunning }) => isRunning)!.nodeId
  }

  async begin(): Promise<void> {
    const { fields } = await (await this.to(this.#anyNode)).admin('createGroupsTopic', {})
    this.#topic = { topicId: fields.topicId as number, partitions: fields.partitions as number }
  }

  placeOf(group: string, memberId: bigint): GroupPlace {
    const { topicId, partitions } = this.#topic!
    const partition = partitionOfKey(UTF8.encode(group), partitions)
    return { topicId, partition, routeVersion: { term: 0, placement: 0 }, memberId }
  }

  /** Asks the running brokers one after the other until one coordinates, and gives its answer, whatever it is. */
  async ask<Q, A extends { readonly code: number }>(
    codec: MessageCodec<Q>,
    message: Q,
    reply: MessageCodec<A>,
  ): Promise<A> {
    const deadline = Date.now() + PATIENCE_MS
    while (true) {
      for (const { nodeId, isRunning } of this.cluster.brokers) {
        if (!isRunning) continue
        // A broker that ends in the middle of this is not the one.
        const answer = await this.to(nodeId)
          .then((client) => client.request(codec, message, reply))
          .catch(() => null)
        if (answer !== null && !PASSING.includes(errorName(answer.code))) return answer
      }
      if (Date.now() > deadline) throw new Error(`nobody coordinates within ${PATIENCE_MS} ms`)
      await pause(50)
    }
  }

  /** The node that coordinates a group. */
  async coordinatorOf(group: string): Promise<number> {
    const { route } = await this.ask(
      groupBeat,
      { place: this.placeOf(group, 1n), memberEpoch: 1, version: 0, waitMs: 0, group },
      groupBeatReply,
    )
    return route.nodeId
  }

  async admin(operation: 'groupList' | 'groupDescribe' | 'groupReset' | 'groupDelete', fields: Fields) {
    const deadline = Date.now() + PATIENCE_MS
    while (true) {
      for (const { nodeId, isRunning } of this.cluster.brokers) {
        if (!isRunning) continue
        const reply = await (await this.to(nodeId)).admin(operation, fields)
        if (reply.code === CODE_OK || !PASSING.includes(errorName(reply.code))) {
          return { code: errorName(reply.code), fields: reply.fields }
        }
      }
      if (Date.now() > deadline) throw new Error(`nobody answers ${operation}`)
      await pause(50)
    }
  }
}

interface MemberOptions {
  readonly memberName?: string
  readonly leaseMs?: number
  readonly topicIds: readonly number[]
}

/** One member in one life. */
export class RawMember {
  epoch = 0
  version = 0
  assigned: GroupBeatReply['assigned'] = []

  constructor(
    readonly client: GroupsClient,
    readonly group: string,
    readonly id: bigint,
    readonly options: MemberOptions,
  ) {}

  async join(): Promise<GroupJoined & { readonly error: ErrorName | null }> {
    const { leaseMs = 30_000, memberName = '', topicIds } = this.options
    const place = this.client.placeOf(this.group, this.id)
    const message = { place, leaseMs, group: this.group, memberName, clientId: 'raw', topicIds }
    const joined = await this.client.ask(groupJoin, message, groupJoined)
    this.epoch = joined.memberEpoch
    return { ...joined, error: errorName(joined.code) }
  }

  async beat(waitMs = 0): Promise<ErrorName | null> {
    const { client, group, id, epoch: memberEpoch, version } = this
    const message = { place: client.placeOf(group, id), memberEpoch, version, waitMs, group }
    const reply = await client.ask(groupBeat, message, groupBeatReply)
    if (reply.code === CODE_OK) {
      this.version = reply.version
      this.assigned = reply.assigned
    }
    return errorName(reply.code)
  }

  /** Partitions that it has, as text, revoking ones marked. */
  get partitions(): readonly string[] {
    return this.assigned.map(({ partition, isRevoking }) => `${partition}${isRevoking ? '!' : ''}`)
  }

  async commit(
    offsets: Readonly<Record<number, number | null>>,
    options: { readonly releases?: boolean; readonly leaves?: boolean } = {},
  ): Promise<GroupCommitReply & { readonly error: ErrorName | null; readonly errors: (ErrorName | null)[] }> {
    const { client, group, id, epoch: memberEpoch } = this
    const entries = this.assigned
      .filter(({ partition }) => partition in offsets)
      .map(({ topicId, partition, lane, epoch }) => ({
        ...{ topicId, partition, lane, epoch, term: 1 },
        offset: offsets[partition]!,
        releases: options.releases ?? false,
      }))
    const message = { place: client.placeOf(group, id), memberEpoch, leaves: options.leaves ?? false, group, entries }
    const reply = await client.ask(groupCommit, message, groupCommitReply)
    return { ...reply, error: errorName(reply.code), errors: reply.codes.map(errorName) }
  }
}
