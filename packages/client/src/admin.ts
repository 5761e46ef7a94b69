// Administration: topics and the state of brokers. Apart from the main entry, so that who only produces and consumes
// does not load MessagePack.
import {
  ADMIN_OPERATIONS,
  type AdminOperation,
  type AdminReply,
  adminReply,
  admin as adminRequest,
  CODE_OK,
  type CodecName,
  type Durability,
  Reader,
} from '@millrace/protocol'
import {
  type AdminFields,
  choice,
  decodeFields,
  encodeFields,
  list,
  number,
  numberOrNull,
  text,
} from './admin-fields.js'
import type { Cluster } from './cluster.js'
import { type Connection, sendRequest } from './connection.js'
import { ConnectionError, errorOfCode, MillraceError, toMillraceError } from './errors.js'
import type { Lifeline } from './lifeline.js'
import { internalsOf, type Mill } from './mill.js'
import { integer, onlyKnown } from './options.js'
import { bytesTopic } from './topic.js'

export type { CodecName, Durability }

export interface CreateTopicOptions {
  /** Default 1. Cannot be changed later. */
  readonly partitions?: number
  /** `flushed` (default) survives power loss; `buffered` survives the end of the process. */
  readonly durability?: Durability
  /** What producers may compress with. Default `none` and `gzip`, which every client can read. */
  readonly codecs?: readonly CodecName[]
  /**
   * Records go this many milliseconds after they were appended, in whole segments. Default null: they are kept.
   */
  readonly retentionMs?: number | null
  /**
   * Of each partition this many bytes are kept at least, as they stand on disk; what is older goes in whole segments.
   * Default null: all are kept.
   */
  readonly retentionBytes?: number | null
}

/** What a topic keeps; null for no limit. */
export interface TopicRetention {
  readonly retentionMs: number | null
  readonly retentionBytes: number | null
}

export interface CreatedTopic {
  readonly topicId: number
  readonly name: string
  readonly partitions: number
}

export interface TopicSummary extends CreatedTopic, TopicRetention {
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
}

export interface PartitionDescription {
  readonly partition: number
  /** 0 while there is no leader. */
  readonly nodeId: number
  readonly shard: number
  readonly term: number
  readonly logStartOffset: number
  /** The offset that the next committed record will have. */
  readonly highWatermark: number
  readonly bytesOnDisk: number
}

export interface TopicDescription extends TopicRetention {
  readonly topicId: number
  readonly name: string
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  readonly partitions: readonly PartitionDescription[]
}

/** What a broker says of itself; brokers may say more. */
export interface BrokerStatus {
  readonly nodeId: number
  readonly clusterId: string
  readonly environment: string
  readonly uptimeMs: number
  readonly version: string
  readonly [name: string]: unknown
}

const DURABILITIES = ['flushed', 'buffered'] as const satisfies readonly Durability[]
const CODECS = ['none', 'gzip'] as const satisfies readonly CodecName[]

/**
 * Administration through the control connection of a client.
 * @throws MillraceError INVALID_ARGUMENT for anything but what `connect` returns.
 */
export function admin(mill: Mill): Admin {
  return new Admin(internalsOf(mill))
}

/** Every method rejects with a MillraceError: CONNECTION, TIMEOUT, CLOSED, and what the broker refuses with. */
export class Admin {
  readonly #cluster: Cluster
  readonly #lifeline: Lifeline

  /** @internal */
  constructor({ cluster, lifeline }: { readonly cluster: Cluster; readonly lifeline: Lifeline }) {
    this.#cluster = cluster
    this.#lifeline = lifeline
  }

  /**
   * Resolves when this client's map holds a leader for every partition.
   * @throws MillraceError TOPIC_EXISTS, INVALID_TOPIC_NAME, INVALID_CONFIG.
   */
  async createTopic(name: string, options: CreateTopicOptions = {}): Promise<CreatedTopic> {
    bytesTopic(name)
    onlyKnown('createTopic()', options, ['partitions', 'durability', 'codecs', 'retentionMs', 'retentionBytes'])
    const partitions = integer('partitions', options.partitions ?? 1, 1, Number.MAX_SAFE_INTEGER)
    const { durability, codecs } = options
    const retention = { ...limit('retentionMs', options), ...limit('retentionBytes', options) }
    const fields = { name, partitions, ...(durability && { durability }), ...(codecs && { codecs }), ...retention }
    const { reply, mapVersion } = await this.#ask('createTopic', fields)
    const created = {
      topicId: number(reply, 'topicId'),
      name: text(reply, 'name'),
      partitions: number(reply, 'partitions'),
    }
    await this.#mapHolds(`the leaders of ${name}`, () => {
      const topic = this.#cluster.map.topicById(created.topicId)
      const removed = topic === undefined && this.#cluster.map.version > mapVersion
      return removed || (topic?.routes.every(({ nodeId }) => nodeId !== 0) ?? false)
    })
    return created
  }

  /** Resolves when this client's map no longer holds the topic. @throws MillraceError UNKNOWN_TOPIC. */
  async deleteTopic(name: string): Promise<{ readonly topicId: number }> {
    const { reply } = await this.#ask('deleteTopic', { name })
    const topicId = number(reply, 'topicId')
    await this.#mapHolds(`the end of ${name}`, () => this.#cluster.map.topicById(topicId) === undefined)
    return { topicId }
  }

  /** @throws MillraceError UNKNOWN_TOPIC. */
  async describeTopic(name: string): Promise<TopicDescription> {
    const { reply } = await this.#ask('describeTopic', { name })
    return {
      topicId: number(reply, 'topicId'),
      name: text(reply, 'name'),
      durability: choice(reply, 'durability', DURABILITIES),
      codecs: list(reply, 'codecs', (value) => choice({ codec: value }, 'codec', CODECS)),
      ...retentionOf(reply),
      partitions: list(reply, 'partitions', describePartition),
    }
  }

  async listTopics(): Promise<readonly TopicSummary[]> {
    const { reply } = await this.#ask('listTopics', {})
    return list(reply, 'topics', (value) => {
      const topic = value as AdminFields
      return {
        topicId: number(topic, 'topicId'),
        name: text(topic, 'name'),
        partitions: number(topic, 'partitions'),
        durability: choice(topic, 'durability', DURABILITIES),
        codecs: list(topic, 'codecs', (codec) => choice({ codec }, 'codec', CODECS)),
        ...retentionOf(topic),
      }
    })
  }

  /** Of the broker that the control connection goes to. */
  async brokerStatus(): Promise<BrokerStatus> {
    const { reply } = await this.#ask('brokerStatus', {})
    return {
      ...reply,
      nodeId: number(reply, 'nodeId'),
      clusterId: text(reply, 'clusterId'),
      environment: text(reply, 'environment'),
      uptimeMs: number(reply, 'uptimeMs'),
      version: text(reply, 'version'),
    }
  }

  async #ask(operation: AdminOperation, fields: object): Promise<{ reply: AdminFields; mapVersion: number }> {
    this.#lifeline.hold()
    try {
      const connection = await this.#connection()
      const answer = await this.#request(connection, operation, fields)
      if (answer.code !== CODE_OK) throw errorOfCode(answer.code, answer.detail)
      return { reply: decodeFields(answer.payload), mapVersion: answer.mapVersion }
    } finally {
      this.#lifeline.release()
    }
  }

  /** The control connection, once it is up. */
  async #connection(): Promise<Connection> {
    await new Promise<void>((resolve, reject) => this.#cluster.whenMap({ onMap: resolve, onNoMap: reject }))
    await this.#when('a control connection', () => this.#cluster.controlConnection !== null)
    const connection = this.#cluster.controlConnection
    if (connection === null) throw new ConnectionError('the control connection was lost again')
    return connection
  }

  #request(connection: Connection, operation: AdminOperation, fields: object): Promise<AdminReply> {
    const { map, requestTimeoutMs } = this.#cluster
    const message = {
      operation: ADMIN_OPERATIONS[operation],
      mapVersion: map.version,
      payload: encodeFields(fields),
    }
    return new Promise((resolve, reject) => {
      sendRequest(connection, adminRequest, message, adminReply.kind, requestTimeoutMs, {
        onReply: (_header, payload) => resolve(adminReply.decode(new Reader(payload))),
        onFailed: (error) => reject(toMillraceError(error)),
      })
    })
  }

  async #mapHolds(what: string, holds: () => boolean): Promise<void> {
    this.#lifeline.hold()
    try {
      await this.#when(what, holds)
    } finally {
      this.#lifeline.release()
    }
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

/** A limit that was given, checked. @throws MillraceError INVALID_ARGUMENT. */
function limit(name: keyof TopicRetention, options: CreateTopicOptions): Partial<TopicRetention> {
  const value = options[name] ?? null
  return value === null ? {} : { [name]: integer(name, value, 1, Number.MAX_SAFE_INTEGER) }
}

const retentionOf = (fields: AdminFields): TopicRetention => ({
  retentionMs: numberOrNull(fields, 'retentionMs'),
  retentionBytes: numberOrNull(fields, 'retentionBytes'),
})

function describePartition(value: unknown): PartitionDescription {
  const partition = value as AdminFields
  return {
    partition: number(partition, 'partition'),
    nodeId: number(partition, 'nodeId'),
    shard: number(partition, 'shard'),
    term: number(partition, 'term'),
    logStartOffset: number(partition, 'logStartOffset'),
    highWatermark: number(partition, 'highWatermark'),
    bytesOnDisk: number(partition, 'bytesOnDisk'),
  }
}
