// The consumer as users see it: subscriptions with common defaults, closed together; and, in a group, its membership.
import { Deadline } from './deadline.js'
import { closedError, invalidArgument, MillraceError } from './errors.js'
import { type Assignment, GroupSubscription, type PartitionLag } from './group-subscription.js'
import { LAG_INTERVAL_MS, MAX_PARTITION } from './limits.js'
import { Notifier } from './notifier.js'
import { integer, type ResolvedConsumerOptions, type ResolvedGroupOptions } from './options.js'
import { type CloseOptions, closeTimeout } from './producer.js'
import { Session, type SessionSink, type SessionSurroundings } from './session.js'
import { type Observable, type Observer, observable, observe } from './streams/observe.js'
import { RecordStream } from './streams/record-stream.js'
import {
  type ResolvedSubscribeOptions,
  resolveSubscribeOptions,
  type StartPosition,
  type SubscribeOptions,
} from './subscribe-options.js'
import { bytesTopic, type Topic } from './topic.js'

type AnySession = Session<unknown, unknown>

/** Where to go on in a partition: an offset, one end of it, or the first record at or after a time in ms since 1970. */
export type SeekPosition = number | 'earliest' | 'latest' | { readonly timestamp: number }

/** Of the time for closing, what records being worked on may take; the rest is kept for the last commit. */
const WORK_SHARE = 0.8

export class Consumer {
  /** What this member of a group reads, now and after every change. Never emits without a group. Completes on close. */
  readonly assignment$: Observable<Assignment>
  /**
   * How far this member of a group is behind in each of its partitions, each second in which that has changed. Never emits
   * without a group. Completes on close.
   */
  readonly lag$: Observable<readonly PartitionLag[]>
  readonly #surroundings: SessionSurroundings
  readonly #options: ResolvedConsumerOptions
  readonly #sessions = new Set<AnySession>()
  readonly #assignments = new Notifier<Assignment>()
  readonly #closed = new Notifier<void>()
  readonly #endAssignments: () => void
  readonly #onClosed: () => void
  /** The latest membership; it may be over. */
  #membership: GroupSubscription | null = null
  readonly #deadline: Deadline
  #closing: Promise<void> | null = null

  /** @internal */
  constructor(
    surroundings: Omit<SessionSurroundings, 'onSessionOver'>,
    options: ResolvedConsumerOptions,
    onClosed: () => void,
  ) {
    this.#surroundings = { ...surroundings, onSessionOver: (session) => this.#sessions.delete(session) }
    this.#options = options
    this.#onClosed = onClosed
    this.#deadline = new Deadline(surroundings.cluster.environment)
    const assignments = observe(this.#assignments, 1)
    this.assignment$ = assignments.stream
    this.#endAssignments = assignments.end
    this.lag$ = observable((observer) => this.#followLag(observer))
  }

  /**
   * The records of a topic, from now on unless `from` says otherwise; a topic given as a string is bytes to bytes.
   * Nothing happens before it is subscribed to or iterated over, and each of these is a session of its own.
   *
   * In a group: the records of the partitions that the group assigns, from where it has stopped; `from` (`earliest` unless
   * given) is for partitions of which nothing was committed. Committed is what is finished, up to the first record that
   * is not; so after a crash records may come again, and none is left out. One subscription at a time.
   *
   * Errors end it and are final: UNKNOWN_TOPIC, TOPIC_DELETED, OFFSET_OUT_OF_RANGE, LOG_DIVERGED, CORRUPT_BATCH,
   * DESERIALIZATION, CONNECTION before the first contact; in a group also NOTHING_SETTLES, ALREADY_SUBSCRIBED and
   * MEMBER_FENCED. Everything transient is on `mill.status$`.
   */
  subscribe<K, V>(topic: Topic<K, V>, options?: SubscribeOptions): RecordStream<K, V>
  subscribe(topic: string, options?: SubscribeOptions): RecordStream<Uint8Array, Uint8Array>
  subscribe<K, V>(
    topic: Topic<K, V> | string,
    options: SubscribeOptions = {},
  ): RecordStream<K, V> | RecordStream<Uint8Array, Uint8Array> {
    return typeof topic === 'string' ? this.#stream(bytesTopic(topic), options) : this.#stream(topic, options)
  }

  /**
   * Goes on in a partition elsewhere; work that has begun goes on and counts for nothing. In a group the new position is
   * committed when it is above the committed one; going back is not, until it is passed again.
   * @throws MillraceError INVALID_ARGUMENT when the partition is not read at the moment.
   */
  seek(partition: number, position: SeekPosition): void {
    const start = startOf(position)
    for (const session of this.#reading([partition])) session.seek(partition, start)
  }

  /**
   * Delivers nothing more of these partitions, or of all that are read now, until `resume`. Their members keep them; what
   * goes to another member and comes back is not paused any more.
   * @throws MillraceError INVALID_ARGUMENT for a partition that is not read at the moment.
   */
  pause(partitions?: readonly number[]): void {
    for (const session of this.#reading(partitions ?? [])) session.readers.pause(partitions ?? null)
  }

  /** Undoes `pause`. @throws MillraceError INVALID_ARGUMENT for a partition that is not read at the moment. */
  resume(partitions?: readonly number[]): void {
    for (const session of this.#reading(partitions ?? [])) session.readers.resume(partitions ?? null)
  }

  /** The sessions that read all of `partitions`. */
  #reading(partitions: readonly number[]): AnySession[] {
    const sessions = [...this.#sessions].filter((session) =>
      partitions.every(
        (partition) => session.readers.get(integer('partition', partition, 0, MAX_PARTITION)) !== undefined,
      ),
    )
    if (sessions.length > 0 || partitions.length === 0) return sessions
    throw invalidArgument(`partition ${partitions.join(', ')} is not read by this consumer at the moment`)
  }

  #stream<K, V>(topic: Topic<K, V>, options: SubscribeOptions): RecordStream<K, V> {
    const { delivery, membership } = this.#options
    const resolved = resolveSubscribeOptions(options, delivery, membership !== null)
    const open = (sink: SessionSink, settles: boolean): Session<K, V> => {
      const session = new Session(this.#surroundings, topic, resolved, sink)
      const refusal = this.#refusal(topic.name, settles)
      if (refusal !== null) session.refuse(refusal)
      else {
        this.#sessions.add(session)
        if (membership !== null) this.#enter(session, membership, resolved)
      }
      return session
    }
    return new RecordStream(this.#surroundings.cluster.environment, open)
  }

  #refusal(topic: string, settles: boolean): MillraceError | null {
    const { membership } = this.#options
    const context = { topic, fatal: true }
    if (this.#closing !== null) return closedError('the consumer', context)
    if (membership === null) return null
    const { group, commit } = membership
    if (this.#sessions.size > 0) {
      const detail = `this consumer of group ${group} has a subscription`
      return new MillraceError('ERR_MILLRACE_ALREADY_SUBSCRIBED', detail, context)
    }
    if (settles || commit === 'onReturn') return null
    const detail = `nothing in the pipeline of group ${group} says when a record of ${topic} is finished`
    return new MillraceError('ERR_MILLRACE_NOTHING_SETTLES', detail, context)
  }

  #enter(session: AnySession, membership: ResolvedGroupOptions, resolved: ResolvedSubscribeOptions): void {
    const before = this.#membership?.left ?? Promise.resolve()
    const tell = (assignment: Assignment): void => this.#assignments.notify(assignment)
    this.#membership = new GroupSubscription(session, this.#surroundings, membership, resolved, before, tell)
    session.source = this.#membership
  }

  #followLag(observer: Observer<readonly PartitionLag[]>): () => void {
    const { environment } = this.#surroundings.cluster
    let last = ''
    let timer = environment.timer(0, () => look())
    const look = (): void => {
      const lags = this.#membership?.lags ?? []
      const shown = JSON.stringify(lags)
      timer = environment.timer(LAG_INTERVAL_MS, look)
      if (shown === last || lags.length === 0) return
      last = shown
      observer.next(lags)
    }
    const stopListening = this.#closed.listen(() => {
      timer.cancel()
      observer.complete()
    })
    return () => {
      timer.cancel()
      stopListening()
    }
  }

  /**
   * Completes every subscription, waits up to `timeoutMs` for records being worked on, and, in a group, commits them and
   * leaves. A member with a `memberName` does not leave: its partitions wait for it until its lease runs out. Never rejects.
   */
  close(options: CloseOptions = {}): Promise<void> {
    this.#deadline.within(closeTimeout(options))
    this.#closing ??= this.#close()
    return this.#closing
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close()
  }

  async #close(): Promise<void> {
    const sessions = [...this.#sessions]
    for (const session of sessions) session.complete()
    const idle = Promise.all(sessions.map((session) => session.whenIdle())).then(() => {})
    await this.#deadline.wait(idle, this.#membership === null ? 1 : WORK_SHARE)
    for (const session of sessions) session.abandon()
    if (this.#membership !== null) {
      await this.#deadline.wait(this.#membership.left)
      this.#membership.abandon()
    }
    this.#endAssignments()
    this.#closed.notify()
    this.#onClosed()
  }
}

function startOf(position: SeekPosition): StartPosition {
  if (typeof position === 'number') {
    return { start: 'offset', position: integer('position', position, 0, Number.MAX_SAFE_INTEGER), term: 0 }
  }
  if (position === 'earliest' || position === 'latest') return { start: position, position: 0 }
  if (typeof position === 'object' && position !== null && 'timestamp' in position) {
    const { timestamp } = position
    return { start: 'timestamp', position: integer('position.timestamp', timestamp, 0, Number.MAX_SAFE_INTEGER) }
  }
  throw invalidArgument('a position is an offset, earliest, latest or { timestamp }')
}
