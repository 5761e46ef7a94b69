// Administration: topics, brokers, and the state of the cluster. Apart from the main entry, so that who only produces and
// consumes does not load MessagePack.
import {
  type AdminOperation,
  type AdminReply,
  adminReply,
  admin as adminRequest,
  CODE_OK,
  type CodecName,
  type Durability,
  Reader,
} from '@millrace/protocol'
import { limit, newLimit, nodeOf, partitionOf } from './admin-arguments.js'
import { type AdminFields, adminMessage, decodeFields, number, text } from './admin-fields.js'
import { GroupAdmin, type GroupReset } from './admin-groups.js'
import { lostOn, mayAskAgain } from './admin-outcome.js'
import {
  nodes,
  readBrokerStatus,
  readClusterStatus,
  readDescription,
  readMembers,
  readMoves,
  readSummaries,
} from './admin-replies.js'
import type {
  AlterTopicOptions,
  BrokerLife,
  BrokerLoad,
  BrokerStatus,
  ClusterStatus,
  CreatedTopic,
  CreateTopicOptions,
  GroupDescription,
  GroupMemberDescription,
  GroupPartitionDescription,
  GroupSummary,
  LackingReplica,
  MemberDescription,
  NodeStatus,
  PartitionDescription,
  PartitionMove,
  ReplicaDescription,
  TopicDescription,
  TopicRetention,
  TopicSummary,
} from './admin-types.js'
import type { Cluster } from './cluster.js'
import { type Connection, sendRequest } from './connection.js'
import { ConnectionError, errorOfCode, MillraceError, toMillraceError } from './errors.js'
import type { Lifeline } from './lifeline.js'
import { internalsOf, type Mill } from './mill.js'
import { integer, onlyKnown } from './options.js'
import { bytesTopic } from './topic.js'

export type {
  AlterTopicOptions,
  BrokerLife,
  BrokerLoad,
  BrokerStatus,
  ClusterStatus,
  CodecName,
  CreatedTopic,
  CreateTopicOptions,
  Durability,
  GroupDescription,
  GroupMemberDescription,
  GroupPartitionDescription,
  GroupReset,
  GroupSummary,
  LackingReplica,
  MemberDescription,
  NodeStatus,
  PartitionDescription,
  PartitionMove,
  ReplicaDescription,
  TopicDescription,
  TopicRetention,
  TopicSummary,
}

const CREATE_KEYS = [
  'partitions',
  'replicas',
  'durability',
  'codecs',
  'retentionMs',
  'retentionBytes',
] as const satisfies readonly (keyof CreateTopicOptions)[]

const ALTER_KEYS = [
  'partitions',
  'replicas',
  'breakKeyOrder',
  'retentionMs',
  'retentionBytes',
] as const satisfies readonly (keyof AlterTopicOptions)[]

/** How often it is asked again whether a removed broker is still counted on; each answer takes two seconds. */
const REMOVAL_WAITS = 5

/**
 * Administration through the control connection of a client: any broker takes it, and knows whom to ask.
 * @throws MillraceError INVALID_ARGUMENT for anything but what `connect` returns.
 */
export function admin(mill: Mill): Admin {
  return new Admin(internalsOf(mill))
}

/** Every method rejects with a MillraceError: CONNECTION, TIMEOUT, CLOSED, and what the broker refuses with. */
export class Admin {
  readonly #cluster: Cluster
  readonly #lifeline: Lifeline
  readonly #groups: GroupAdmin

  /** @internal */
  constructor({ cluster, lifeline }: { readonly cluster: Cluster; readonly lifeline: Lifeline }) {
    this.#cluster = cluster
    this.#lifeline = lifeline
    this.#groups = new GroupAdmin(cluster, lifeline, (name) => this.describeTopic(name))
  }

  /**
   * Resolves when this client's map holds a leader for every partition.
   * @throws MillraceError TOPIC_EXISTS, INVALID_TOPIC_NAME, INVALID_CONFIG.
   */
  async createTopic(name: string, options: CreateTopicOptions = {}): Promise<CreatedTopic> {
    bytesTopic(name)
    onlyKnown('createTopic()', options, CREATE_KEYS)
    const partitions = integer('partitions', options.partitions ?? 1, 1, Number.MAX_SAFE_INTEGER)
    const { durability, codecs } = options
    const fields = {
      name,
      partitions,
      ...(options.replicas !== undefined && {
        replicas: integer('replicas', options.replicas, 1, Number.MAX_SAFE_INTEGER),
      }),
      ...(durability && { durability }),
      ...(codecs && { codecs }),
      ...limit('retentionMs', options),
      ...limit('retentionBytes', options),
    }
    const { reply, mapVersion } = await this.#ask('createTopic', fields)
    const created = {
      topicId: number(reply, 'topicId'),
      name: text(reply, 'name'),
      partitions: number(reply, 'partitions'),
    }
    await this.#leadersKnown(created, mapVersion)
    return created
  }

  /**
   * Gives a topic more partitions, other replicas, or other limits on what it keeps. Resolves when this client's map holds a leader for
   * every partition.
   * @throws MillraceError UNKNOWN_TOPIC, INVALID_CONFIG; also for more partitions without `breakKeyOrder`.
   */
  async alterTopic(name: string, options: AlterTopicOptions): Promise<CreatedTopic> {
    bytesTopic(name)
    onlyKnown('alterTopic()', options, ALTER_KEYS)
    const { partitions, replicas, breakKeyOrder } = options
    const { reply, mapVersion } = await this.#ask('alterTopic', {
      name,
      ...(partitions !== undefined && {
        partitions: integer('partitions', partitions, 1, Number.MAX_SAFE_INTEGER),
      }),
      ...(replicas !== undefined && { replicas: integer('replicas', replicas, 1, Number.MAX_SAFE_INTEGER) }),
      ...(breakKeyOrder !== undefined && { breakKeyOrder }),
      ...newLimit('retentionMs', options),
      ...newLimit('retentionBytes', options),
    })
    const altered = { topicId: number(reply, 'topicId'), name, partitions: number(reply, 'partitions') }
    await this.#leadersKnown(altered, mapVersion)
    return altered
  }

  /** The map of this client holds a leader for every partition, or says that the topic is gone again. */
  #leadersKnown({ topicId, name, partitions }: CreatedTopic, mapVersion: number): Promise<void> {
    return this.#mapHolds(`the leaders of ${name}`, () => {
      const topic = this.#cluster.map.topicById(topicId)
      if (topic === undefined) return this.#cluster.map.version > mapVersion
      return topic.routes.length >= partitions && topic.routes.every(({ nodeId }) => nodeId !== 0)
    })
  }

  /** Resolves when this client's map no longer holds the topic. @throws MillraceError UNKNOWN_TOPIC. */
  async deleteTopic(name: string): Promise<{ readonly topicId: number }> {
    const { reply } = await this.#ask('deleteTopic', { name })
    const topicId = number(reply, 'topicId')
    await this.#mapHolds(`the end of ${name}`, () => this.#cluster.map.topicById(topicId) === undefined)
    return { topicId }
  }

  /** Settings, leaders, replicas and offsets of a topic. @throws MillraceError UNKNOWN_TOPIC. */
  async describeTopic(name: string): Promise<TopicDescription> {
    const { reply } = await this.#ask('describeTopic', { name })
    return readDescription(reply, this.#cluster.map)
  }

  async listTopics(): Promise<readonly TopicSummary[]> {
    return readSummaries((await this.#ask('listTopics', {})).reply)
  }

  /** Of the broker that the control connection goes to. */
  async brokerStatus(): Promise<BrokerStatus> {
    return readBrokerStatus((await this.#ask('brokerStatus', {})).reply)
  }

  /** The nodes and what is missing, as the broker that the control connection goes to sees it. */
  async clusterStatus(): Promise<ClusterStatus> {
    return readClusterStatus((await this.#ask('clusterStatus', {})).reply)
  }

  /** All nodes the cluster ever had, and what is to be on each. */
  async members(): Promise<readonly MemberDescription[]> {
    return readMembers((await this.#ask('members', {})).reply)
  }

  /**
   * Has everything on a broker go elsewhere, and nothing new come to it; `members` and `moves` tell how far that is. With
   * `undo` it is like any other again, and what has gone stays where it is.
   * @returns how many partitions were given other replicas, and how many wait: they never had a leader, and go when this is
   * asked again once they have one. @throws MillraceError INVALID_CONFIG.
   */
  async drainBroker(
    nodeId: number,
    { undo = false }: { readonly undo?: boolean } = {},
  ): Promise<{ readonly moves: number; readonly waiting: number }> {
    const { reply } = await this.#ask('drainBroker', { nodeId: nodeOf(nodeId), undo })
    return { moves: number(reply, 'moves'), waiting: number(reply, 'waiting') }
  }

  /**
   * Takes a broker that has nothing left out of the cluster, for good: it is refused by all others from then on. With `force`
   * also when partitions have not left it yet, or have no leader that could tell, as for a dead one: records that only it has
   * are lost. Resolves once the metadata is decided without it, or after some seconds.
   * @returns `decides`: it is still counted on there, and losing one more may be one too many. @throws INVALID_CONFIG.
   */
  async removeBroker(nodeId: number, options: { readonly force?: boolean } = {}): Promise<{ decides: boolean }> {
    for (let asked = 0; ; asked++) {
      try {
        const { reply } = await this.#ask('removeBroker', { nodeId: nodeOf(nodeId), force: options.force === true })
        if (reply.decides !== true || asked === REMOVAL_WAITS) return { decides: reply.decides === true }
      } catch (cause) {
        if (asked > 0 && toMillraceError(cause).code === 'ERR_MILLRACE_NODE_REMOVED') return { decides: false }
        throw cause
      }
    }
  }

  /**
   * Has a partition kept by these brokers, the first of which should lead it. Resolves when that is decided; `moves` tells
   * how far it is.
   * @throws MillraceError UNKNOWN_TOPIC, UNKNOWN_PARTITION, INVALID_CONFIG.
   */
  async movePartition(topic: string, partition: number, to: readonly number[]): Promise<void> {
    await this.#ask('movePartition', { name: topic, partition: partitionOf(partition), to: to.map(nodeOf) })
  }

  /** A partition on its way stays with those who have it. @returns who they are. @throws MillraceError INVALID_CONFIG. */
  async cancelMove(topic: string, partition: number): Promise<readonly number[]> {
    const { reply } = await this.#ask('cancelMove', { name: topic, partition: partitionOf(partition) })
    return nodes(reply, 'to')
  }

  /** Partitions that are on their way to other brokers, and those that have no leader. */
  async moves(): Promise<readonly PartitionMove[]> {
    return readMoves((await this.#ask('moves', {})).reply)
  }

  /** The consumer groups that have members, or have committed something. */
  listGroups(): Promise<readonly GroupSummary[]> {
    return this.#groups.list()
  }

  /** Members, committed offsets and lag of a group. @throws MillraceError UNKNOWN_GROUP. */
  describeGroup(group: string): Promise<GroupDescription> {
    return this.#groups.describe(group)
  }

  /**
   * Has a group without members go on elsewhere in a topic, forwards or back. Resolves with the offsets, by partition.
   * @throws MillraceError GROUP_NOT_EMPTY, UNKNOWN_TOPIC, UNKNOWN_PARTITION.
   */
  resetGroup(group: string, reset: GroupReset): Promise<ReadonlyMap<number, number>> {
    return this.#groups.reset(group, reset)
  }

  /** Forgets a group without members. @throws MillraceError GROUP_NOT_EMPTY, UNKNOWN_GROUP. */
  deleteGroup(group: string): Promise<void> {
    return this.#groups.delete(group)
  }

  #ask(operation: AdminOperation, fields: object): Promise<{ reply: AdminFields; mapVersion: number }> {
    return this.#lifeline.during(() => this.#askUntilFinal(operation, fields))
  }

  /** Asks until there is an answer, a refusal that is final, or no time left. */
  async #askUntilFinal(operation: AdminOperation, fields: object): Promise<{ reply: AdminFields; mapVersion: number }> {
    const { environment, requestTimeoutMs } = this.#cluster
    const backoff = this.#cluster.newBackoff()
    const endMs = environment.monotonicMs() + requestTimeoutMs
    for (;;) {
      try {
        return await this.#askOnce(operation, fields, Math.max(1, Math.ceil(endMs - environment.monotonicMs())))
      } catch (cause) {
        const error = toMillraceError(cause)
        const delayMs = backoff.next()
        if (!mayAskAgain(operation, error) || !this.#cluster.hasMap || environment.monotonicMs() + delayMs >= endMs)
          throw error
        await new Promise<void>((resolve) => environment.timer(delayMs, resolve))
      }
    }
  }

  async #askOnce(
    operation: AdminOperation,
    fields: object,
    timeoutMs: number,
  ): Promise<{ reply: AdminFields; mapVersion: number }> {
    const connection = await this.#connection()
    const answer = await this.#request(connection, operation, fields, timeoutMs)
    if (answer.code !== CODE_OK) throw lostOn(operation, errorOfCode(answer.code, answer.detail))
    return { reply: decodeFields(answer.payload), mapVersion: answer.mapVersion }
  }

  /** The control connection, once it is up. */
  async #connection(): Promise<Connection> {
    await this.#cluster.mapHeld()
    await this.#when('a control connection', () => this.#cluster.controlConnection !== null)
    const connection = this.#cluster.controlConnection
    if (connection === null) throw new ConnectionError('the control connection was lost again')
    return connection
  }

  #request(connection: Connection, operation: AdminOperation, fields: object, timeoutMs: number): Promise<AdminReply> {
    const message = adminMessage(operation, this.#cluster.map.version, fields)
    return new Promise((resolve, reject) => {
      sendRequest(connection, adminRequest, message, adminReply.kind, timeoutMs, {
        onReply: (_header, payload) => resolve(adminReply.decode(new Reader(payload))),
        onFailed: (error) => reject(lostOn(operation, error)),
      })
    })
  }

  #mapHolds(what: string, holds: () => boolean): Promise<void> {
    return this.#lifeline.during(() => this.#when(what, holds))
  }

  /** Resolves once `holds`, which may become true with any change of the map. @throws MillraceError TIMEOUT. */
  #when(what: string, holds: () => boolean): Promise<void> {
    if (holds()) return Promise.resolve()
    const { environment, changes, status, requestTimeoutMs } = this.#cluster
    return new Promise((resolve, reject) => {
      const end = (): void => {
        stopChanges()
        stopStatus()
        timer.cancel()
      }
      const stopChanges = changes.listen(() => {
        if (!holds()) return
        end()
        resolve()
      })
      const stopStatus = status.listen(({ kind }) => {
        if (kind !== 'closed') return
        end()
        reject(new MillraceError('ERR_MILLRACE_CLOSED', 'the client is closed'))
      })
      const timer = environment.timer(requestTimeoutMs, () => {
        end()
        reject(new MillraceError('ERR_MILLRACE_TIMEOUT', `${what} did not come within ${requestTimeoutMs} ms`))
      })
    })
  }
}
