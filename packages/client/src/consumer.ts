// The consumer as users see it: subscriptions with common defaults, closed together.
import { closedError } from './errors.js'
import type { ConsumerOptions } from './options.js'
import { type CloseOptions, closeTimeout, withinTime } from './producer.js'
import { Session, type SessionSink, type SessionSurroundings } from './session.js'
import { RecordStream } from './streams/record-stream.js'
import { resolveSubscribeOptions, type SubscribeOptions } from './subscribe-options.js'
import { bytesTopic, type Topic } from './topic.js'

type AnySession = Session<unknown, unknown>

export class Consumer {
  readonly #surroundings: SessionSurroundings
  readonly #options: ConsumerOptions
  readonly #sessions = new Set<AnySession>()
  readonly #onClosed: () => void
  #closing: Promise<void> | null = null

  /** @internal */
  constructor(
    surroundings: Omit<SessionSurroundings, 'onSessionOver'>,
    options: ConsumerOptions,
    onClosed: () => void,
  ) {
    this.#surroundings = { ...surroundings, onSessionOver: (session) => this.#sessions.delete(session) }
    this.#options = options
    this.#onClosed = onClosed
  }

  /**
   * The records of a topic, from now on unless `from` says otherwise; a topic given as a string is bytes to bytes.
   * Nothing happens before it is subscribed to or iterated over, and each of these is a session of its own.
   *
   * Errors end it and are final: UNKNOWN_TOPIC, TOPIC_DELETED, OFFSET_OUT_OF_RANGE, LOG_DIVERGED, CORRUPT_BATCH,
   * DESERIALIZATION, CONNECTION before the first contact. Everything transient is on `mill.status$`.
   */
  subscribe<K, V>(topic: Topic<K, V>, options?: SubscribeOptions): RecordStream<K, V>
  subscribe(topic: string, options?: SubscribeOptions): RecordStream<Uint8Array, Uint8Array>
  subscribe<K, V>(
    topic: Topic<K, V> | string,
    options: SubscribeOptions = {},
  ): RecordStream<K, V> | RecordStream<Uint8Array, Uint8Array> {
    return typeof topic === 'string' ? this.#stream(bytesTopic(topic), options) : this.#stream(topic, options)
  }

  #stream<K, V>(topic: Topic<K, V>, options: SubscribeOptions): RecordStream<K, V> {
    const resolved = resolveSubscribeOptions(options, this.#options)
    const open = (sink: SessionSink): Session<K, V> => {
      const session = new Session(this.#surroundings, topic, resolved, sink)
      if (this.#closing === null) this.#sessions.add(session)
      else session.refuse(closedError('the consumer', { topic: topic.name, fatal: true }))
      return session
    }
    return new RecordStream(this.#surroundings.cluster.environment, open)
  }

  /** Completes every subscription and waits up to `timeoutMs` for records being worked on. Never rejects. */
  close(options: CloseOptions = {}): Promise<void> {
    this.#closing ??= this.#close(closeTimeout(options))
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(timeoutMs: number): Promise<void> {
    const sessions = [...this.#sessions]
    for (const session of sessions) session.complete()
    const idle = Promise.all(sessions.map((session) => session.whenIdle())).then(() => {})
    await withinTime(this.#surroundings.cluster.environment, idle, timeoutMs)
    for (const session of sessions) session.abandon()
    this.#onClosed()
  }
}
