// Administration of consumer groups: asked of the leaders of the partitions of __groups, each of which knows its own.
import {
  type AdminOperation,
  adminReply,
  admin as adminRequest,
  CODE_OK,
  checkGroupName,
  GROUPS_TOPIC,
  type OffsetAnswer,
  offsetsReply,
  offsets as offsetsRequest,
  type Reader,
  type TopicInfo,
} from '@millrace/protocol'
import { type AdminFields, adminMessage, choice, decodeFields, flag, list, map, number, text } from './admin-fields.js'
import type {
  GroupDescription,
  GroupMemberDescription,
  GroupPartitionDescription,
  GroupSummary,
  TopicDescription,
} from './admin-types.js'
import type { Cluster } from './cluster.js'
import { errorOfCode, invalidArgument, MillraceError, toMillraceError } from './errors.js'
import { coordinatorOf, LeaderRequests } from './leader-requests.js'
import type { Lifeline } from './lifeline.js'
import { LANE } from './limits.js'
import { integer, onlyKnown } from './options.js'

const STATES = ['empty', 'stable', 'rebalancing'] as const

/** Where a group is to go on. */
export interface GroupReset {
  readonly topic: string
  /** The oldest record there is, the end, an offset of each partition, or the first record at or after a time. */
  readonly to: 'earliest' | 'latest' | { readonly offset: number } | { readonly timestamp: number }
  /** Default: all of the topic. */
  readonly partitions?: readonly number[]
}

type KnownTopic = Pick<TopicDescription, 'name' | 'partitions'>

export class GroupAdmin {
  readonly #cluster: Cluster
  readonly #lifeline: Lifeline
  readonly #describeTopic: (name: string) => Promise<TopicDescription>

  constructor(cluster: Cluster, lifeline: Lifeline, describeTopic: (name: string) => Promise<TopicDescription>) {
    this.#cluster = cluster
    this.#lifeline = lifeline
    this.#describeTopic = describeTopic
  }

  async list(): Promise<readonly GroupSummary[]> {
    const topic = await this.#groupsTopic()
    if (topic === undefined) return []
    const replies = await Promise.all(
      topic.routes.map((_, partition) =>
        this.#ask(new LeaderRequests(this.#cluster, GROUPS_TOPIC, () => partition), 'groupList', { partition }),
      ),
    )
    const groups = replies.flatMap((reply) => list(reply, 'groups', (value) => this.#summary(map(value))))
    return groups.sort((a, b) => (a.group < b.group ? -1 : 1))
  }

  async describe(group: string): Promise<GroupDescription> {
    const reply = await this.#askOf(group, 'groupDescribe', { group })
    const members = list(reply, 'members', (value) => this.#member(map(value)))
    const committed = list(reply, 'offsets', map)
    const names = new Set([
      ...members.flatMap(({ partitions }) => partitions.map(({ topic }) => topic)),
      ...committed.map((one) => this.#topicOf(one)),
    ])
    const topics = await Promise.all([...names].sort().map((name) => this.#known(name)))
    return {
      group: text(reply, 'group'),
      state: choice(reply, 'state', STATES),
      epoch: number(reply, 'epoch'),
      members,
      partitions: topics.flatMap((topic) => this.#progress(topic, members, committed)),
    }
  }

  #progress(
    { name: topic, partitions }: KnownTopic,
    members: readonly GroupMemberDescription[],
    committed: readonly AdminFields[],
  ): GroupPartitionDescription[] {
    const owners = new Map<number, string>()
    for (const member of members) {
      for (const one of member.partitions) if (one.topic === topic) owners.set(one.partition, member.clientId)
    }
    const offsets = new Map<number, AdminFields>()
    for (const one of committed) if (this.#topicOf(one) === topic) offsets.set(number(one, 'partition'), one)
    return partitions.map(({ partition, highWatermark, logStartOffset }) => {
      const offset = offsets.get(partition)
      const committedOffset = offset === undefined ? null : number(offset, 'offset')
      const from = committedOffset ?? logStartOffset
      return {
        topic,
        partition,
        member: owners.get(partition) ?? null,
        committedOffset,
        committedAtMs: offset === undefined ? null : number(offset, 'atMs'),
        highWatermark,
        lag: highWatermark === null || from === null ? null : Math.max(0, highWatermark - from),
      }
    })
  }

  async reset(group: string, reset: GroupReset): Promise<ReadonlyMap<number, number>> {
    onlyKnown('resetGroup()', reset, ['topic', 'to', 'partitions'])
    const topic = await this.#describeTopic(reset.topic)
    const { name, topicId } = topic
    const wanted = reset.partitions ?? topic.partitions.map(({ partition }) => partition)
    const missing = wanted.find((partition) => !topic.partitions.some((one) => one.partition === partition))
    if (missing !== undefined) {
      const detail = `${name} has partitions 0 to ${topic.partitions.length - 1}, not ${missing}`
      throw new MillraceError('ERR_MILLRACE_UNKNOWN_PARTITION', detail, { topic: name, partition: missing })
    }
    const offsets = await Promise.all(
      wanted.map(async (partition) => ({
        topicId,
        partition,
        offset: await this.#offset(topic, partition, reset.to),
      })),
    )
    await this.#askOf(group, 'groupReset', { group, offsets })
    return new Map(offsets.map(({ partition, offset }) => [partition, offset]))
  }

  async delete(group: string): Promise<void> {
    await this.#askOf(group, 'groupDelete', { group })
  }

  /** The offset that `to` means in a partition. */
  async #offset({ topicId, name }: TopicDescription, partition: number, to: GroupReset['to']): Promise<number> {
    if (typeof to === 'object' && to !== null && 'offset' in to) {
      return integer('to.offset', to.offset, 0, Number.MAX_SAFE_INTEGER)
    }
    const query = { topicId, partition, lane: LANE, ...queryOf(to) }
    const replyCodec = { ...offsetsReply, encode: () => {}, decode: decodeAnswer }
    const requests = new LeaderRequests(this.#cluster, name, () => partition, 'data')
    const request = { codec: offsetsRequest, replyCodec, message: () => ({ queries: [query] }) }
    const answer = await this.#inTime(requests, () => requests.ask(request))
    if (answer.code !== CODE_OK) throw errorOfCode(answer.code, `${name}/${partition}`, { topic: name, partition })
    return answer.offset
  }

  /** Asks the coordinator of a group. @throws MillraceError INVALID_REQUEST for what is no name. */
  async #askOf(group: string, operation: AdminOperation, fields: object): Promise<AdminFields> {
    try {
      checkGroupName(group)
    } catch (cause) {
      throw toMillraceError(cause)
    }
    if ((await this.#groupsTopic()) === undefined && operation !== 'groupReset') {
      throw new MillraceError('ERR_MILLRACE_UNKNOWN_GROUP', `group ${group}`)
    }
    return this.#ask(coordinatorOf(this.#cluster, group), operation, fields)
  }

  async #ask(requests: LeaderRequests, operation: AdminOperation, fields: object): Promise<AdminFields> {
    const message = adminMessage(operation, this.#cluster.map.version, fields)
    const request = { codec: adminRequest, replyCodec: adminReply, message: () => message }
    const reply = await this.#inTime(requests, () => requests.ask(request))
    if (reply.code !== CODE_OK) throw errorOfCode(reply.code, reply.detail)
    return decodeFields(reply.payload)
  }

  /** @throws MillraceError TIMEOUT. */
  async #inTime<T>(requests: LeaderRequests, ask: () => Promise<T>): Promise<T> {
    const { environment, requestTimeoutMs } = this.#cluster
    const timer = environment.timer(requestTimeoutMs, () => {
      const cause = requests.lastError ?? undefined
      const detail = `no answer within ${requestTimeoutMs} ms${cause === undefined ? '' : `: ${cause.detail}`}`
      requests.stop(new MillraceError('ERR_MILLRACE_TIMEOUT', detail, { cause }))
    })
    try {
      return await this.#lifeline.during(ask)
    } finally {
      timer.cancel()
      requests.stop(new MillraceError('ERR_MILLRACE_CLOSED', 'the request is answered'))
    }
  }

  /** The topic of the coordinators, in a map asked for now if it is not in the one that is held. */
  async #groupsTopic(): Promise<TopicInfo | undefined> {
    await this.#lifeline.during(async () => {
      await this.#cluster.mapHeld()
      if (this.#cluster.topic(GROUPS_TOPIC) === undefined) await this.#cluster.freshMapHeld()
    })
    return this.#cluster.topic(GROUPS_TOPIC)
  }

  /** A topic that was deleted has no partitions. */
  async #known(name: string): Promise<KnownTopic> {
    return this.#cluster.topic(name) === undefined ? { name, partitions: [] } : this.#describeTopic(name)
  }

  #nameOf(topicId: number): string {
    return this.#cluster.map.topicById(topicId)?.name ?? `#${topicId}`
  }

  #topicOf(fields: AdminFields): string {
    return this.#nameOf(number(fields, 'topicId'))
  }

  #summary(fields: AdminFields): GroupSummary {
    return {
      group: text(fields, 'group'),
      members: number(fields, 'members'),
      topics: list(fields, 'topics', (topicId) => this.#nameOf(number({ topicId }, 'topicId'))),
      state: choice(fields, 'state', STATES),
    }
  }

  #member(fields: AdminFields): GroupMemberDescription {
    return {
      id: text(fields, 'id'),
      name: fields.name == null ? null : text(fields, 'name'),
      clientId: text(fields, 'clientId'),
      epoch: number(fields, 'epoch'),
      partitions: list(fields, 'partitions', (value) => {
        const one = map(value)
        const place = { topic: this.#topicOf(one), partition: number(one, 'partition') }
        return { ...place, epoch: number(one, 'epoch'), isRevoking: flag(one, 'isRevoking') }
      }),
    }
  }
}

function queryOf(to: GroupReset['to']) {
  if (to === 'earliest' || to === 'latest') return { kind: to, timestamp: 0 } as const
  if (typeof to === 'object' && to !== null && 'timestamp' in to) {
    const timestamp = integer('to.timestamp', to.timestamp, 0, Number.MAX_SAFE_INTEGER)
    return { kind: 'timestamp', timestamp } as const
  }
  throw invalidArgument('to must be earliest, latest, { offset } or { timestamp }')
}

/** Of the one query that was asked. */
function decodeAnswer(reader: Reader): OffsetAnswer {
  const [answer] = offsetsReply.decode(reader).answers
  if (answer === undefined) throw new MillraceError('ERR_MILLRACE_CORRUPT_FRAME', 'an answer without an offset')
  return answer
}
