// One subscription at work: a reader for each partition, records taken from them in turn, claims on those being worked on,
// and a watch over its progress. RxJS and iteration are two ways to drive it. Which partitions it reads is fixed when it
// opens, or decided by the group that it belongs to, and then they come and go.
import type { ChecksumFunction, TopicInfo } from '@millrace/protocol'
import { abortError, onAbort } from './abort.js'
import { type Cluster, changedPartitions, type MapChange } from './cluster.js'
import type { CursorOwner } from './cursor.js'
import type { ByteProducer } from './dead-letter.js'
import { DecodeFailures } from './decode-failures.js'
import type { ClientCodec, ClientEnvironment, ClientTimer } from './environment.js'
import { ConnectionError, MillraceError } from './errors.js'
import type { FrameBuffers } from './frame-buffers.js'
import type { Inbox, InboxOwner } from './inbox.js'
import type { Interceptors } from './interceptors.js'
import type { Lifeline } from './lifeline.js'
import { WATCH_INTERVAL_MS } from './limits.js'
import type { Position } from './partition-progress.js'
import { type PartitionReader, PartitionReaders } from './partition-readers.js'
import { ProgressWatch, type Unfinished } from './progress-watch.js'
import { ConsumerRecord } from './record.js'
import { SessionClaims } from './session-claims.js'
import type { Claim, ClientServices, Deliverer } from './settlement.js'
import type { ResolvedSubscribeOptions, StartPosition, Until } from './subscribe-options.js'
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

/** Decides which partitions a session reads, from the moment its topic is known. */
export interface PartitionSource {
  onTopic(topic: TopicInfo): void
  /** The session takes nothing more; what is being worked on may go on. */
  onOver(): void
  /** It is known where the partition begins. */
  onOpened(partition: number): void
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
  readonly readers: PartitionReaders<K, V>
  /** Set before `start` for a session that reads what a group assigns to it. */
  source: PartitionSource | null = null
  reusable: FrameBuffers | null = null
  #topicId = 0
  /** Of the record taken last, until it is known to be finished. */
  #inHand: Inbox<K, V> | null = null
  /** What was asked for while a record was delivered. */
  readonly #beforeNext: (() => void)[] = []
  #suspended = false
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
    this.#claims = new SessionClaims(topic.name, this)
    this.#decodeFailures = new DecodeFailures(this, options.onDecodeError, options.deadLetterTopic)
    this.readers = new PartitionReaders<K, V>(this)
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
      this.end(this.#refusal)
      return
    }
    this.#started = true
    this.#surroundings.lifeline.hold()
    const { signal } = this.#options
    if (signal !== null) {
      this.#stopSignal = onAbort(signal, () => this.end(abortError(signal, { topic: this.topicName, fatal: true })))
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
    this.end(null)
  }

  /** Resolves when no record is being worked on. */
  whenIdle(): Promise<void> {
    return this.#claims.whenIdle()
  }

  /** Gives up on records being worked on; `error` is what their streams end with, null lets them complete. */
  abandon(error: MillraceError | null = null): void {
    this.#claims.abandon(error)
  }

  /** The sink is told; null is an orderly end. */
  end(error: MillraceError | null): void {
    if (this.#finish()) this.#sink.onEnd(error)
  }

  #finish(): boolean {
    if (this.#over) return false
    this.#over = true
    this.#holdInHand()
    this.source?.onOver()
    this.readers.clear()
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
    this.end(error instanceof ConnectionError ? error.asFatal() : new MillraceError(error.code, error.detail, fatal))
  }

  onTopic(topic: TopicInfo): void {
    if (this.#over) return
    const { topicId, routes } = topic
    this.#topicId = topicId
    this.#stopListening = this.cluster.changes.listen((change) => this.#place(change))
    this.#armWatch()
    if (this.source !== null) {
      this.source.onTopic(topic)
      return
    }
    const partitions = this.#options.partitions ?? [...routes.keys()]
    const missing = partitions.find((partition) => partition >= routes.length)
    if (missing !== undefined) {
      const detail = `${this.topicName} has partitions 0 to ${routes.length - 1}, not ${missing}`
      const context = { topic: this.topicName, partition: missing, fatal: true }
      this.end(new MillraceError('ERR_MILLRACE_UNKNOWN_PARTITION', detail, context))
      return
    }
    for (const partition of partitions) this.readers.add(topicId, partition, this.#options.startOf(partition))
    this.#share(partitions.length)
    this.#place(null)
  }

  #share(partitions: number): void {
    this.shareBytes = Math.max(1, Math.floor(this.#options.inFlightBytes / Math.max(1, partitions)))
  }

  #place(change: MapChange): void {
    if (this.readers.size > 0) this.readers.place(change && changedPartitions(change, this.#topicId, []))
    // A cursor says the same; a member of a group may have none.
    else if (this.cluster.map.topicById(this.#topicId) === undefined) {
      const { topicName: topic } = this
      this.end(new MillraceError('ERR_MILLRACE_TOPIC_DELETED', `${topic} was deleted`, { topic, fatal: true }))
    }
  }

  // Records.

  onOpened(partition: number): void {
    this.source?.onOpened(partition)
  }

  onNews(partition: number): void {
    const reader = this.readers.get(partition)
    if (reader !== undefined && this.readers.queue(reader.inbox)) this.#offer()
  }

  /** There may be something to take again. */
  #offer(): void {
    if (!this.#over) this.#sink.onAvailable()
  }

  /**
   * What `takeFrom` finds next, a record or a whole batch; null when there is none at the moment. Finishes what was taken
   * before, unless claimed.
   */
  take<T>(takeFrom: (inbox: Inbox<K, V>) => T | null): T | null {
    this.handedOver()
    while (!this.#over && !this.#suspended) {
      const inbox = this.readers.next()
      if (inbox === null) return null
      let taken: T | null
      try {
        taken = takeFrom(inbox)
      } catch (error) {
        this.end(error as MillraceError)
        return null
      }
      if (taken !== null) {
        this.#inHand = inbox
        this.#takes++
        if (taken instanceof ConsumerRecord) this.#surroundings.interceptors?.consuming(taken)
        return taken
      }
      this.readers.endTurn()
      if (inbox.done) this.#partitionDone(inbox)
      else if (inbox.hasNews) this.readers.queue(inbox)
    }
    return null
  }

  /** Whoever was given the record taken last has returned. */
  handedOver(): void {
    this.#inHand = null
    if (this.#beforeNext.length > 0) for (const work of this.#beforeNext.splice(0)) work()
  }

  /** The record taken last was not finished: it will be delivered again. */
  #holdInHand(): void {
    const inbox = this.#inHand
    this.#inHand = null
    if (inbox === null || !inbox.isTracked || inbox.progress.claimedBelow > inbox.currentOffset) return
    const { currentPosition, currentEndOffset: endOffset } = inbox
    const { offset, term: termBefore } = currentPosition
    inbox.progress.hold({ offset, endOffset, termBefore, isSettled: false })
  }

  #partitionDone(inbox: Inbox<K, V>): void {
    const reader = this.readers.get(inbox.partition)
    if (reader !== undefined) this.readers.remove(reader)
    if (this.readers.size === 0) this.end(null)
  }

  // Partitions that come and go.

  /** Reads a partition more. */
  addPartition(partition: number, start: StartPosition): PartitionReader<K, V> {
    const reader = this.readers.add(this.#topicId, partition, start, true)
    this.#share(this.readers.size)
    reader.cursor.place()
    return reader
  }

  /** Nothing more of it is delivered, and no work on it begins; work that has begun goes on. */
  removePartition(reader: PartitionReader<K, V>): void {
    if (this.#inHand === reader.inbox) this.#holdInHand()
    this.readers.remove(reader)
    this.#claims.dropWaiting(reader.inbox)
    this.#share(this.readers.size)
  }

  /** Everything of the partition below it is finished; null while that is not known. */
  positionOf(reader: PartitionReader<K, V>): Position | null {
    return reader.position(this.#inHand)
  }

  /** Nothing is delivered until this is taken back. */
  suspend(isSuspended: boolean): void {
    this.#suspended = isSuspended
    if (!isSuspended) this.#offer()
  }

  /** Goes on reading a partition elsewhere. While one of its records is delivered, that one comes first. */
  seek(partition: number, start: StartPosition): void {
    const reader = this.readers.get(partition)
    if (reader === undefined) return
    const { isPaused, inbox } = reader
    if (this.#inHand === inbox) {
      this.#beforeNext.push(() => this.seek(partition, start))
      return
    }
    this.readers.remove(reader)
    this.#claims.dropWaiting(inbox)
    const moved = this.readers.add(this.#topicId, partition, start, inbox.isTracked)
    moved.isPaused = isPaused
    moved.cursor.place()
  }

  undecodable(inbox: Inbox<K, V>, what: 'key' | 'value', cause: unknown): void {
    const verdict = this.#decodeFailures.judge(inbox.currentRecord.record, what, cause)
    if (verdict === null) return
    // The order of the partition is kept: nothing behind the record is delivered before its fate is known.
    const claim = this.#claim(inbox)
    claim.begin()
    inbox.hold()
    verdict.then(
      () => {
        claim.settle()
        inbox.goOn()
        this.onNews(inbox.partition)
      },
      (error: MillraceError) => this.end(error),
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
    return this.#claim(this.#inHand!)
  }

  #claim(inbox: Inbox<K, V>): Claim {
    const { currentBatch, currentOffset, currentEndOffset, currentOrigin } = inbox
    return this.#claims.add(inbox, currentBatch!, currentOffset, currentEndOffset, currentOrigin)
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
    const { cursors } = this.readers
    for (const cursor of cursors) cursor.watch(nowMs)
    const stall = this.#progress.look(nowMs, this.#oldestUnfinished(), cursors)
    if (stall === null) return
    // Work that does not end cannot be waited for: its streams end now.
    this.abandon(stall)
    this.end(stall)
  }

  #oldestUnfinished(): Unfinished | null {
    const claim = this.#claims.oldest
    if (claim !== null) return { token: claim, partition: claim.partition, offset: claim.offset }
    const inbox = this.#inHand
    // The record taken last, when the one after it was not asked for yet.
    if (inbox === null || inbox.currentBatch === null) return null
    return { token: this.#takes, partition: inbox.partition, offset: inbox.currentOffset }
  }
}
