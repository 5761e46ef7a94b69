// The options of connect(), producers and consumers: types, defaults, reasons, checks. README shows the same table.
import {
  ACKS_IDS,
  type Acks,
  BATCH_HEADER_BYTES,
  CODEC_IDS,
  CODEC_NAMES,
  type CodecName,
  checkGroupName,
  MAX_BATCH_BYTES,
  MAX_DECODED_BYTES,
  MAX_IN_FLIGHT_BATCHES,
  MAX_LEASE_MS,
  MAX_STRING_BYTES,
  MIN_LEASE_MS,
  ProtocolError,
} from '@millrace/protocol'
import { type Address, parseBootstrap } from './address.js'
import { checkOnDecodeError, type OnDecodeError } from './decode-failures.js'
import { invalidArgument } from './errors.js'
import type { Interceptor } from './interceptors.js'
import { MAX_TIMER_MS } from './limits.js'
import type { Partitioner } from './partitioner.js'
import { checkTopicName } from './topic.js'
import type { Logger } from './warnings.js'

/** Waits between attempts: a random time up to `initialMs`, doubling up to `maxMs`. */
export interface RetryOptions {
  readonly initialMs: number
  readonly maxMs: number
}

export interface ConnectOptions {
  /** Addresses for the first contact: `host`, `host:port`, a comma-separated list, or an array. Port 7420 by default. */
  readonly bootstrap: string | readonly string[]
  /** Shown in the brokers' logs and metrics. Default: host name and process id. */
  readonly clientId?: string
  /** Bytes of records waiting to be acknowledged, over all producers. Default 32 MiB: bounds memory. */
  readonly bufferBytes?: number
  /** How long the first contact may take before everything pending fails. Default 5,000 ms. */
  readonly connectTimeoutMs?: number
  /** How long an answer to one request may take. Default 30,000 ms. */
  readonly requestTimeoutMs?: number
  /** Wait for the first contact for ever instead of failing. Default false: a wrong address is told at once. */
  readonly wait?: boolean
  /** Default 100 ms doubling to 10 s with full jitter: many clients do not come back in step. */
  readonly retry?: Partial<RetryOptions>
  /** Gets warnings and news; pino and console fit. Default: warnings go to the process. */
  readonly logger?: Logger
  /** Aborting it closes the client at once. */
  readonly signal?: AbortSignal
  /** Look on while records are sent and consumed, and may add headers: for tracing. Default: none. */
  readonly interceptors?: readonly Interceptor[]
}

export interface ProducerOptions {
  /** When a send counts: `all` committed (default), `leader` appended by the leader, `none` handed to the socket. */
  readonly acks?: Acks
  /**
   * Compression of each batch: `none` (default), `gzip`, or `zstd` where this runtime has it (Node 22.15, 23.8, 24 or
   * newer); the topic must allow it, and does not allow zstd unless made so, since its consumers must have it too.
   */
  readonly codec?: CodecName
  /** Bytes at which a batch is closed. Default 256 KiB: large enough for sequential writes, small enough for latency. */
  readonly batchBytes?: number
  /** Batches on their way per partition. Default 5; order is kept under retries whatever it is. */
  readonly inFlightBatches?: number
  /** How long a record may take in all, retries included. Default 120,000 ms. */
  readonly deliveryTimeoutMs?: number
  /** Where keys go. Default: the partitioner of the topic, else murmur2 of the key, as every client does it. */
  readonly partitioner?: Partitioner
}

/** With every default filled in. */
export interface ResolvedProducerOptions extends Required<Omit<ProducerOptions, 'partitioner'>> {
  readonly partitioner: Partitioner | null
}

/** How records are delivered, by default or to one subscription. */
export interface DeliveryOptions {
  /** Decoded bytes delivered and not settled, or on their way, per subscription. Default 8 MiB: bounds memory. */
  readonly inFlightBytes?: number
  /** What happens to a record that its serde cannot decode. Default `fail`: nothing is skipped silently. */
  readonly onDecodeError?: OnDecodeError
  /** Where records go that `onDecodeError` sends away as dead letters. The topic must exist. */
  readonly deadLetterTopic?: string
  /**
   * A record that is not finished, or a partition of which nothing can be read, for so long ends the subscription with
   * ERR_MILLRACE_STALLED. Default: never; `status$` and a warning tell of it after 30 s.
   */
  readonly stallTimeoutMs?: number
}

export interface ResolvedDeliveryOptions extends Required<Omit<DeliveryOptions, 'deadLetterTopic' | 'stallTimeoutMs'>> {
  readonly deadLetterTopic: string | null
  /** Null for never. */
  readonly stallTimeoutMs: number | null
}

export interface ConsumerOptions extends DeliveryOptions {
  /** Consumers of one name share the partitions of a topic, and go on where the group has stopped. Default: none. */
  readonly group?: string
  /**
   * Who this member is, over restarts: a process that comes back under this name within `leaseMs` has the partitions it
   * had, and nothing else has moved. Each process needs a name of its own. Default: none, a member leaves when it is closed.
   */
  readonly memberName?: string
  /**
   * How long a member that is not heard may keep its partitions. Default 45,000 ms: longer than a leader is away.
   * Slow handlers do not use it up; an event loop that stands still does.
   */
  readonly leaseMs?: number
  /** How often finished work is committed. Default 1,000 ms: what is done twice at most after a crash. */
  readonly commitIntervalMs?: number
  /**
   * `settled` (default): a subscription needs an operator that says when a record is finished, such as processEach(), or
   * iteration. `onReturn`: also without one; a record is finished when `next` has returned.
   */
  readonly commit?: 'settled' | 'onReturn'
}

export interface ResolvedGroupOptions {
  readonly group: string
  readonly memberName: string | null
  readonly leaseMs: number
  readonly commitIntervalMs: number
  readonly commit: 'settled' | 'onReturn'
}

export interface ResolvedConsumerOptions {
  /** As given: a subscription may have others. */
  readonly delivery: DeliveryOptions
  readonly membership: ResolvedGroupOptions | null
}

export interface ResolvedConnectOptions {
  readonly bootstrap: readonly Address[]
  readonly clientId: string | null
  readonly bufferBytes: number
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly wait: boolean
  readonly retry: RetryOptions
  readonly logger: Logger | null
  readonly signal: AbortSignal | null
  readonly interceptors: readonly Interceptor[]
}

const MIB = 1024 * 1024
const MAX_BUFFER_BYTES = 2 ** 40

export function resolveConnectOptions(options: ConnectOptions): ResolvedConnectOptions {
  onlyKnown('connect()', options, CONNECT_KEYS)
  const bootstrap = parseBootstrap(options.bootstrap)
  const retry = { initialMs: 100, maxMs: 10_000, ...options.retry }
  integer('retry.initialMs', retry.initialMs, 1, MAX_TIMER_MS)
  integer('retry.maxMs', retry.maxMs, retry.initialMs, MAX_TIMER_MS)
  const clientId = options.clientId ?? null
  if (clientId !== null && (typeof clientId !== 'string' || clientId.length * 3 > MAX_STRING_BYTES)) {
    throw invalidArgument('clientId must be a short string')
  }
  return {
    bootstrap,
    clientId,
    bufferBytes: integer('bufferBytes', options.bufferBytes ?? 32 * MIB, 1024, MAX_BUFFER_BYTES),
    connectTimeoutMs: integer('connectTimeoutMs', options.connectTimeoutMs ?? 5_000, 1, MAX_TIMER_MS),
    requestTimeoutMs: integer('requestTimeoutMs', options.requestTimeoutMs ?? 30_000, 1, MAX_TIMER_MS),
    wait: options.wait ?? false,
    retry,
    logger: options.logger ?? null,
    signal: options.signal ?? null,
    interceptors: interceptorsOf(options.interceptors ?? []),
  }
}

const HOOKS = ['onSend', 'onAcknowledged', 'onFailed', 'onConsume'] as const satisfies readonly (keyof Interceptor)[]

function interceptorsOf(list: readonly Interceptor[]): readonly Interceptor[] {
  if (!Array.isArray(list)) throw invalidArgument('interceptors must be a list')
  list.forEach((one: Interceptor | null, at) => {
    const isObject = typeof one === 'object' && one !== null
    if (!isObject || HOOKS.every((hook) => one[hook] === undefined)) {
      throw invalidArgument(`interceptors[${at}] must be an object with any of ${HOOKS.join(', ')}`)
    }
    const wrong = HOOKS.find((hook) => one[hook] !== undefined && typeof one[hook] !== 'function')
    if (wrong !== undefined) throw invalidArgument(`interceptors[${at}].${wrong} must be a function`)
  })
  return [...list]
}

export function resolveProducerOptions(options: ProducerOptions, ofTopic?: Partitioner): ResolvedProducerOptions {
  onlyKnown('producer()', options, PRODUCER_KEYS)
  const acks = options.acks ?? 'all'
  if (!Object.hasOwn(ACKS_IDS, acks)) throw invalidArgument(`acks must be all, leader or none, got ${String(acks)}`)
  const codec = options.codec ?? 'none'
  if (!Object.hasOwn(CODEC_IDS, codec))
    throw invalidArgument(`codec must be ${CODEC_NAMES.join(', ')}, got ${String(codec)}`)
  const partitioner = options.partitioner ?? ofTopic ?? null
  if (partitioner !== null && typeof partitioner !== 'function') throw invalidArgument('partitioner must be a function')
  return {
    acks,
    codec,
    partitioner,
    batchBytes: integer('batchBytes', options.batchBytes ?? 256 * 1024, BATCH_HEADER_BYTES + 1, MAX_BATCH_BYTES),
    inFlightBatches: integer('inFlightBatches', options.inFlightBatches ?? 5, 1, MAX_IN_FLIGHT_BATCHES),
    deliveryTimeoutMs: integer('deliveryTimeoutMs', options.deliveryTimeoutMs ?? 120_000, 1, MAX_TIMER_MS),
  }
}

/** @throws MillraceError INVALID_ARGUMENT. */
export function resolveConsumerOptions(options: ConsumerOptions): ResolvedConsumerOptions {
  onlyKnown('consumer()', options, CONSUMER_KEYS)
  const { inFlightBytes, onDecodeError, deadLetterTopic, stallTimeoutMs } = options
  resolveDeliveryOptions(options)
  const delivery = {
    ...(inFlightBytes !== undefined && { inFlightBytes }),
    ...(onDecodeError !== undefined && { onDecodeError }),
    ...(deadLetterTopic !== undefined && { deadLetterTopic }),
    ...(stallTimeoutMs !== undefined && { stallTimeoutMs }),
  }
  return { delivery, membership: resolveGroupOptions(options) }
}

const GROUP_KEYS = [
  'memberName',
  'leaseMs',
  'commitIntervalMs',
  'commit',
] as const satisfies readonly (keyof ConsumerOptions)[]

function resolveGroupOptions(options: ConsumerOptions): ResolvedGroupOptions | null {
  const { group } = options
  if (group === undefined) {
    const needless = GROUP_KEYS.find((key) => options[key] !== undefined)
    if (needless !== undefined) throw invalidArgument(`${needless} is for members of a group: give the name of one too`)
    return null
  }
  const commit = options.commit ?? 'settled'
  if (commit !== 'settled' && commit !== 'onReturn') {
    throw invalidArgument(`commit must be settled or onReturn, got ${String(commit)}`)
  }
  return {
    group: checked(group, 'group'),
    memberName: options.memberName === undefined ? null : checked(options.memberName, 'member'),
    leaseMs: integer('leaseMs', options.leaseMs ?? 45_000, MIN_LEASE_MS, MAX_LEASE_MS),
    commitIntervalMs: integer('commitIntervalMs', options.commitIntervalMs ?? 1_000, 1, MAX_TIMER_MS),
    commit,
  }
}

function checked(name: string, what: string): string {
  try {
    checkGroupName(name, what)
  } catch (cause) {
    throw invalidArgument(cause instanceof ProtocolError ? cause.detail : String(cause), { cause })
  }
  return name
}

/** @throws MillraceError INVALID_ARGUMENT. */
export function resolveDeliveryOptions(options: DeliveryOptions): ResolvedDeliveryOptions {
  const { stallTimeoutMs } = options
  const deadLetterTopic = options.deadLetterTopic ?? null
  if (deadLetterTopic !== null) checkTopicName(deadLetterTopic)
  return {
    inFlightBytes: integer('inFlightBytes', options.inFlightBytes ?? 8 * MIB, 1, 64 * MAX_DECODED_BYTES),
    onDecodeError: checkOnDecodeError(options.onDecodeError ?? 'fail', deadLetterTopic),
    deadLetterTopic,
    stallTimeoutMs: stallTimeoutMs === undefined ? null : integer('stallTimeoutMs', stallTimeoutMs, 1, MAX_TIMER_MS),
  }
}

const CONNECT_KEYS = [
  'bootstrap',
  'clientId',
  'bufferBytes',
  'connectTimeoutMs',
  'requestTimeoutMs',
  'wait',
  'retry',
  'logger',
  'signal',
  'interceptors',
] as const satisfies readonly (keyof ConnectOptions)[]
const PRODUCER_KEYS = [
  'acks',
  'codec',
  'batchBytes',
  'inFlightBatches',
  'deliveryTimeoutMs',
  'partitioner',
] as const satisfies readonly (keyof ProducerOptions)[]
export const DELIVERY_KEYS = [
  'inFlightBytes',
  'onDecodeError',
  'deadLetterTopic',
  'stallTimeoutMs',
] as const satisfies readonly (keyof DeliveryOptions)[]
const CONSUMER_KEYS = [...DELIVERY_KEYS, 'group', ...GROUP_KEYS] as const satisfies readonly (keyof ConsumerOptions)[]

/** A misspelt option is an error, not a default. */
export function onlyKnown(where: string, given: unknown, known: readonly string[]): void {
  if (typeof given !== 'object' || given === null) throw invalidArgument(`${where} takes an object of options`)
  for (const key of Object.keys(given)) {
    if (!known.includes(key)) throw invalidArgument(`${where} has no option ${key}; it knows ${known.join(', ')}`)
  }
}

export function integer(name: string, value: unknown, min: number, max: number): number {
  if (typeof value !== 'number' || !Number.isSafeInteger(value) || value < min || value > max) {
    throw invalidArgument(`${name} must be an integer from ${min} to ${max}, got ${String(value)}`)
  }
  return value
}
