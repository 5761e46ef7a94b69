// The client as users see it: one per cluster, from which producers and consumers are made.
import { onAbort } from './abort.js'
import { BatchBuffers } from './batch-buffers.js'
import { BufferBudget } from './buffer-budget.js'
import { Cluster } from './cluster.js'
import { type ClusterView, viewCluster } from './cluster-view.js'
import { Consumer } from './consumer.js'
import { Deadline } from './deadline.js'
import type { ClientEnvironment } from './environment.js'
import { closedError, DeliveryError, type DeliveryFailure, MillraceError } from './errors.js'
import { Interceptors } from './interceptors.js'
import { Lifeline } from './lifeline.js'
import {
  type ConnectOptions,
  type ConsumerOptions,
  type ProducerOptions,
  resolveConnectOptions,
  resolveConsumerOptions,
  resolveProducerOptions,
} from './options.js'
import { type CloseOptions, closeTimeout, Producer } from './producer.js'
import { ProducerCore, type ProducerSurroundings } from './producer-core.js'
import type { ClientStatistics, MillStatus } from './status.js'
import { type Observable, type ObservedNotifier, observe } from './streams/observe.js'
import { bytesTopic, type Topic } from './topic.js'
import { Warnings } from './warnings.js'

/** Of the time for closing, what records being worked on may take; the rest is kept for sends. */
const CONSUMERS_SHARE = 0.8

interface Closable {
  close(options: CloseOptions): Promise<void>
}

/** What `@millrace/client/admin` works with. */
export interface MillInternals {
  readonly cluster: Cluster
  readonly lifeline: Lifeline
}

const INTERNALS = new WeakMap<Mill, MillInternals>()

/** @throws MillraceError INVALID_ARGUMENT for anything but a client of this package. */
export function internalsOf(mill: Mill): MillInternals {
  const internals = INTERNALS.get(mill)
  if (internals === undefined)
    throw new MillraceError('ERR_MILLRACE_INVALID_ARGUMENT', 'this is not what connect() returns')
  return internals
}

export class Mill {
  /** What happens to connections and subscriptions; a late subscriber gets the latest. Completes on close. */
  readonly status$: Observable<MillStatus>
  /** The cluster map, and where keys go. */
  readonly cluster: ClusterView
  readonly #cluster: Cluster
  readonly #lifeline: Lifeline
  readonly #warnings: Warnings
  readonly #budget: BufferBudget
  readonly #status: ObservedNotifier<MillStatus>
  readonly #shared: ProducerSurroundings
  readonly #producers = new Set<Closable>()
  readonly #consumers = new Set<Closable>()
  /** For dead letters: one for each topic they go to. */
  readonly #byteProducers = new Map<string, Producer<Uint8Array, Uint8Array>>()
  readonly #stopSignal: () => void
  readonly #deadline: Deadline
  /** What `close` waits for at the moment. */
  #beingClosed: readonly Closable[] = []
  #closing: Promise<void> | null = null

  /** @internal */
  constructor(environment: ClientEnvironment, options: ConnectOptions) {
    const resolved = resolveConnectOptions(options)
    this.#deadline = new Deadline(environment)
    this.#cluster = new Cluster(environment, resolved)
    this.#lifeline = new Lifeline(environment)
    this.#warnings = new Warnings(environment, resolved.logger)
    this.#budget = new BufferBudget(environment, resolved.bufferBytes)
    this.#status = observe(this.#cluster.status, 1)
    this.status$ = this.#status.stream
    const { interceptors } = resolved
    this.#shared = {
      cluster: this.#cluster,
      budget: this.#budget,
      lifeline: this.#lifeline,
      buffers: new BatchBuffers(),
      warnings: this.#warnings,
      outboxes: new WeakMap(),
      interceptors: interceptors.length === 0 ? null : new Interceptors(interceptors, this.#warnings),
    }
    this.cluster = viewCluster(this.#cluster, this.#lifeline)
    INTERNALS.set(this, { cluster: this.#cluster, lifeline: this.#lifeline })
    this.#cluster.status.listen((status) => this.#tell(status))
    this.#stopSignal =
      resolved.signal === null
        ? () => {}
        : // What was not sent has failed, which is told by its promise and on `failures$`.
          onAbort(resolved.signal, () => void this.close({ timeoutMs: 0 }).catch(() => {}))
  }

  /**
   * A producer for one topic; a topic given as a string is bytes to bytes.
   * @throws MillraceError INVALID_ARGUMENT, CLOSED, CODEC_UNAVAILABLE for zstd on a runtime without it.
   */
  producer<K, V>(topic: Topic<K, V>, options?: ProducerOptions): Producer<K, V>
  producer(topic: string, options?: ProducerOptions): Producer<Uint8Array, Uint8Array>
  producer<K, V>(
    topic: Topic<K, V> | string,
    options: ProducerOptions = {},
  ): Producer<K, V> | Producer<Uint8Array, Uint8Array> {
    return typeof topic === 'string' ? this.#producer(bytesTopic(topic), options) : this.#producer(topic, options)
  }

  #producer<K, V>(topic: Topic<K, V>, options: ProducerOptions): Producer<K, V> {
    this.#refuseWhenClosed()
    return this.#makeProducer(topic, options)
  }

  #makeProducer<K, V>(topic: Topic<K, V>, options: ProducerOptions): Producer<K, V> {
    const core = new ProducerCore(this.#shared, topic.name, resolveProducerOptions(options, topic.partitioner))
    const producer = new Producer(core, this.#budget, topic, () => this.#producers.delete(producer))
    this.#producers.add(producer)
    return producer
  }

  /** Made even while the client closes, when work that is finished then still sends dead letters. */
  #byteProducer(topic: string): Producer<Uint8Array, Uint8Array> {
    let producer = this.#byteProducers.get(topic)
    if (producer === undefined) {
      producer = this.#makeProducer(bytesTopic(topic), {})
      this.#byteProducers.set(topic, producer)
    }
    return producer
  }

  /**
   * A consumer: what its subscriptions have in common.
   * @throws MillraceError INVALID_ARGUMENT, CLOSED.
   */
  consumer(options: ConsumerOptions = {}): Consumer {
    this.#refuseWhenClosed()
    const { cluster, interceptors } = this.#shared
    const surroundings = {
      cluster,
      interceptors,
      lifeline: this.#lifeline,
      warnings: this.#warnings,
      byteProducer: (topic: string) => this.#byteProducer(topic),
    }
    const consumer = new Consumer(surroundings, resolveConsumerOptions(options), () => this.#consumers.delete(consumer))
    this.#consumers.add(consumer)
    return consumer
  }

  /**
   * Resolves when the cluster map is held. Nothing needs it, but it tells early that nobody is there.
   * @throws MillraceError CONNECTION, CLOSED.
   */
  ready(): Promise<void> {
    return this.#lifeline.during(() => this.#cluster.mapHeld())
  }

  /** Counts since `connect()`. */
  statistics(): ClientStatistics {
    return { ...this.#cluster.statistics }
  }

  /**
   * Completes subscriptions and waits for records being worked on, then waits for sends to be acknowledged, then
   * leaves nothing behind; after `timeoutMs` (10,000 by default) it does so in any case. Calling it again returns the same
   * promise, and may shorten the time: `close({ timeoutMs: 0 })` ends a close that takes too long.
   * @throws DeliveryError, after everything is closed, when records have failed since the last `flush`.
   */
  close(options: CloseOptions = {}): Promise<void> {
    const isSooner = this.#deadline.within(closeTimeout(options))
    if (this.#closing === null) this.#closing = this.#close()
    else if (isSooner)
      for (const closable of this.#beingClosed) void closable.close({ timeoutMs: this.#deadline.leftMs() })
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    // Handlers may still send while their records are finished, so producers come second, with some time of their own.
    const consumersMs = this.#deadline.leftMs(CONSUMERS_SHARE)
    this.#beingClosed = [...this.#consumers]
    await Promise.all(this.#beingClosed.map((consumer) => consumer.close({ timeoutMs: consumersMs })))
    const timeoutMs = this.#deadline.leftMs()
    this.#beingClosed = [...this.#producers]
    const closed = await Promise.allSettled(this.#beingClosed.map((producer) => producer.close({ timeoutMs })))
    this.#beingClosed = []
    this.#stopSignal()
    this.#budget.fail(closedError('the client'))
    this.#cluster.close()
    this.#lifeline.close()
    this.#status.end()
    throwTogether(closed)
  }

  #refuseWhenClosed(): void {
    if (this.#closing !== null) throw closedError('the client')
  }

  /** What a user without a status$ subscription should hear of all the same. */
  #tell({ kind, message, ...fields }: MillStatus): void {
    if (kind === 'unreachable') this.#warnings.warn('MILLRACE_UNREACHABLE', message, fields)
    else if (kind !== 'stalled') this.#warnings.info(message, { kind, ...fields })
  }
}

function throwTogether(closed: readonly PromiseSettledResult<void>[]): void {
  const failures: DeliveryFailure[] = []
  const counts = { failed: 0, unknown: 0 }
  for (const result of closed) {
    if (result.status === 'fulfilled') continue
    if (!(result.reason instanceof DeliveryError)) throw result.reason
    failures.push(...result.reason.failures)
    counts.failed += result.reason.failedRecords
    counts.unknown += result.reason.unknownRecords
  }
  if (counts.failed + counts.unknown > 0) throw new DeliveryError(failures, counts)
}
