// One subscription at work: an inbox and a cursor for each partition, records taken from them in turn, claims on those
// being worked on, and a watch over its progress. RxJS and iteration are two ways to drive it.
import type { ChecksumFunction, TopicInfo } from '@millrace/protocol'
import { abortError, onAbort } from './abort.js'
import { type Cluster, changedPartitions, type MapChange } from './cluster.js'
import { Cursor, type CursorOwner } from './cursor.js'
import type { ByteProducer } from './dead-letter.js'
import { DecodeFailures } from './decode-failures.js'
import type { ClientCodec, ClientEnvironment, ClientTimer } from './environment.js'
import { ConnectionError, MillraceError } from './errors.js'
import { Inbox, type InboxOwner } from './inbox.js'
import type { Interceptors } from './interceptors.js'
import type { Lifeline } from './lifeline.js'
import { WATCH_INTERVAL_MS } from './limits.js'
import { ProgressWatch, type Unfinished } from './progress-watch.js'
import type { ConsumerRecord } from './record.js'
import { SessionClaims } from './session-claims.js'
import type { Claim, ClientServices, Deliverer } from './settlement.js'
import type { ResolvedSubscribeOptions, Until } from './subscribe-options.js'
import type { Topic } from './topic.js'
import { TopicLookup, type TopicSeeker } from './topic-lookup.js'
import type { Warnings } from './warnings.js'

/** Whoever takes the records. */
export interface SessionSink {
  /** `take` has something to give. */
  onAvailable(): void
  /** Called at most once; null after an orderly end. Nothing can be taken any more. */
  onEnd(error: MillraceError | null): void
}

export interface SessionSurroundings {
  readonly cluster: Cluster
  readonly lifeline: Lifeline
  readonly warnings: Warnings
  byteProducer(topic: string): ByteProducer
  readonly interceptors: Interceptors | null
  onSessionOver(session: Session<unknown, unknown>): void
}

export class Session<K, V> implements CursorOwner, InboxOwner<K, V>, TopicSeeker, Deliverer, ClientServices {
  readonly cluster: Cluster
  readonly codec: ClientCodec
  readonly checksum: ChecksumFunction
  readonly #surroundings: SessionSurroundings
  readonly #options: ResolvedSubscribeOptions
  readonly #sink: SessionSink
  readonly #lookup: TopicLookup
  readonly #inboxes = new Map<number, Inbox<K, V>>()
  readonly #cursors: Cursor[] = []
  /** Partitions with news, in the order they are served. */
  #ready: Inbox<K, V>[] = []
  readonly #inReady = new Set<number>()
  #current: Inbox<K, V> | null = null
  #partitionsLeft = 0
  readonly #claims: SessionClaims
  readonly #decodeFailures: DecodeFailures
  #refusal: MillraceError | null = null
  #started = false
  #over = false
  shareBytes = 0
  #watchTimer: ClientTimer | null = null
  #stopListening: () => void = () => {}
  #stopSignal: () => void = () => {}
  readonly #progress: ProgressWatch
  #takes = 0

  constructor(
    surroundings: SessionSurroundings,
    readonly topic: Topic<K, V>,
    options: ResolvedSubscribeOptions,
    sink: SessionSink,
  ) {
    this.#surroundings = surroundings
    this.cluster = surroundings.cluster
    this.codec = this.cluster.environment.codec
    this.checksum = this.cluster.environment.checksum
    this.#options = options
    this.#sink = sink
    this.#claims = new SessionClaims(topic.name, this, () => this.#onRoom())
    this.#decodeFailures = new DecodeFailures(this, options.onDecodeError, options.deadLetterTopic)
    this.#lookup = new TopicLookup(this.cluster, topic.name, this)
    this.#progress = new ProgressWatch(this.cluster, surroundings.warnings, topic.name, options.stallTimeoutMs)
  }

  get topicName(): string {
    return this.topic.name
  }

  get until(): Until | null {
    return this.#options.until
  }

  /** Makes `start` end the session with this error instead. */
  refuse(error: MillraceError): void {
    this.#refusal = error
  }

  /** Begins; `onEnd` may come at once. */
  start(): void {
    if (this.#over) return
    if (this.#refusal !== null) {
      this.#end(this.#refusal)
      return
    }
    this.#started = true
    this.#surroundings.lifeline.hold()
    const { signal } = this.#options
    if (signal !== null) {
      this.#stopSignal = onAbort(signal, () => this.#end(abortError(signal, { topic: this.topicName, fatal: true })))
    }
    if (!this.#over) this.#lookup.start()
  }

  /** Ends without a word to the sink, and without waiting for claims. */
  stop(): void {
    if (this.#finish()) this.#claims.forget()
  }

  /** Ends in good order: nothing more is taken or begun, the sink is told, work that has begun may still be settled. */
  complete(): void {
    this.#claims.dropWaiting()
    this.#end(null)
  }

  /** Resolves when no record is being worked on. */
  whenIdle(): Promise<void> {
    return this.#claims.whenIdle()
  }

  /** Gives up on records being worked on; `error` is what their streams end with, null lets them complete. */
  abandon(error: MillraceError | null = null): void {
    this.#claims.abandon(error)
  }

  #end(error: MillraceError | null): void {
    if (this.#finish()) this.#sink.onEnd(error)
  }

  #finish(): boolean {
    if (this.#over) return false
    this.#over = true
    for (const cursor of this.#cursors) cursor.close()
    for (const inbox of this.#inboxes.values()) inbox.drop()
    this.#ready = []
    this.#current = null
    this.#stopListening()
    this.#stopSignal()
    this.#watchTimer?.cancel()
    this.#lookup.cancel()
    if (this.#started) this.#surroundings.lifeline.release()
    this.#surroundings.onSessionOver(this)
    return true
  }

  // The topic.

  onNoTopic(error: MillraceError): void {
    const fatal = { topic: this.topicName, fatal: true }
    this.#end(error instanceof ConnectionError ? error.asFatal() : new MillraceError(error.code, error.detail, fatal))
  }

  onTopic({ topicId, routes }: TopicInfo): void {
    if (this.#over) return
    const partitions = this.#options.partitions ?? [...routes.keys()]
    const missing = partitions.find((partition) => partition >= routes.length)
    if (missing !== undefined) {
      const detail = `${this.topicName} has partitions 0 to ${routes.length - 1}, not ${missing}`
      this.#end(this.#error('ERR_MILLRACE_UNKNOWN_PARTITION', detail, missing))
      return
    }
    this.shareBytes = Math.max(1, Math.floor(this.#options.inFlightBytes / partitions.length))
    this.#partitionsLeft = partitions.length
    for (const partition of partitions) {
      const inbox: Inbox<K, V> = new Inbox<K, V>(this, topicId, partition, () => cursor.onSettled())
      const cursor = new Cursor(this, inbox, this.#options.startOf(partition))
      this.#inboxes.set(partition, inbox)
      this.#cursors.push(cursor)
    }
    this.#stopListening = this.cluster.changes.listen((change) => this.#place(topicId, change))
    this.#armWatch()
    this.#place(topicId, null)
  }

  #place(topicId: number, change: MapChange): void {
    const changed = new Set(changedPartitions(change, topicId, []))
    for (const cursor of this.#cursors) if (change === null || changed.has(cursor.partition)) cursor.place()
  }

  #error(
    code: 'ERR_MILLRACE_UNKNOWN_TOPIC' | 'ERR_MILLRACE_UNKNOWN_PARTITION',
    detail: string,
    partition?: number,
  ): MillraceError {
    return new MillraceError(code, detail, { topic: this.topicName, partition, fatal: true })
  }

  // Records.

  onNews(partition: number): void {
    const inbox = this.#inboxes.get(partition)
    if (this.#over || inbox === undefined) return
    if (inbox !== this.#current && !this.#inReady.has(partition)) this.#queue(inbox)
    this.#sink.onAvailable()
  }

  /** Enough of what operators have taken was begun. */
  #onRoom(): void {
    if (!this.#over && (this.#current !== null || this.#ready.length > 0)) this.#sink.onAvailable()
  }

  /** The next record, or null when there is none at the moment. Finishes the record taken before, unless claimed. */
  take(): ConsumerRecord<K, V> | null {
    while (!this.#over && !this.#claims.isFull) {
      const inbox = this.#current ?? this.#nextInbox()
      if (inbox === null) return null
      let record: ConsumerRecord<K, V> | null
      try {
        record = inbox.take()
      } catch (error) {
        this.#end(error as MillraceError)
        return null
      }
      if (record !== null) {
        this.#takes++
        this.#surroundings.interceptors?.consuming(record)
        return record
      }
      // A batch has ended: the next partition has its turn.
      this.#current = null
      if (inbox.done) this.#partitionDone(inbox)
      else if (inbox.hasNews) this.#queue(inbox)
    }
    return null
  }

  #nextInbox(): Inbox<K, V> | null {
    const inbox = this.#ready.shift()
    if (inbox === undefined) return null
    this.#inReady.delete(inbox.partition)
    this.#current = inbox
    return inbox
  }

  #queue(inbox: Inbox<K, V>): void {
    this.#inReady.add(inbox.partition)
    this.#ready.push(inbox)
  }

  #partitionDone(inbox: Inbox<K, V>): void {
    inbox.drop()
    this.#inboxes.delete(inbox.partition)
    const index = this.#cursors.findIndex((cursor) => cursor.partition === inbox.partition)
    const [cursor] = this.#cursors.splice(index, 1)
    cursor?.close()
    if (--this.#partitionsLeft === 0) this.#end(null)
  }

  undecodable(inbox: Inbox<K, V>, what: 'key' | 'value', cause: unknown): void {
    const verdict = this.#decodeFailures.judge(inbox.currentOrigin.record, what, cause)
    if (verdict === null) return
    // The order of the partition is kept: nothing behind the record is delivered before its fate is known.
    const claim = this.#claimOf(inbox)
    claim.begin()
    inbox.hold()
    verdict.then(
      () => {
        claim.settle()
        inbox.goOn()
        this.onNews(inbox.partition)
      },
      (error: MillraceError) => this.#end(error),
    )
  }

  // What operators ask of the client.

  get environment(): ClientEnvironment {
    return this.cluster.environment
  }

  report(...news: Parameters<ClientServices['report']>): void {
    this.cluster.report(...news)
  }

  byteProducer(topic: string): ByteProducer {
    return this.#surroundings.byteProducer(topic)
  }

  // Claims.

  claim(): Claim {
    return this.#claimOf(this.#current!)
  }

  #claimOf(inbox: Inbox<K, V>): Claim {
    const offset = inbox.currentOffset
    return this.#claims.add(inbox, inbox.currentBatch!, offset, offset + 1, inbox.currentOrigin)
  }

  // The watch.

  #armWatch(): void {
    const { environment } = this.cluster
    this.#watchTimer = environment.timer(WATCH_INTERVAL_MS, () => {
      environment.defer(() => {
        if (!this.#over) this.#watch(environment.monotonicMs())
      })
    })
  }

  #watch(nowMs: number): void {
    this.#armWatch()
    for (const cursor of [...this.#cursors]) cursor.watch(nowMs)
    const stall = this.#progress.look(nowMs, this.#oldestUnfinished(), this.#cursors)
    if (stall === null) return
    // Work that does not end cannot be waited for: its streams end now.
    this.abandon(stall)
    this.#end(stall)
  }

  #oldestUnfinished(): Unfinished | null {
    const claim = this.#claims.oldest
    if (claim !== null) return { token: claim, partition: claim.partition, offset: claim.offset }
    const inbox = this.#current
    // The record taken last, when the one after it was not asked for yet.
    if (inbox === null || inbox.currentBatch === null) return null
    return { token: this.#takes, partition: inbox.partition, offset: inbox.currentOffset }
  }
}
