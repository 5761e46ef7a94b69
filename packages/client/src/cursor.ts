// One partition of a subscription on the wire: opened where the partition lives, fed with credit, opened again after a
// break at the next offset not yet received.
import {
  type CursorClosed,
  cursorBatches,
  cursorClosed,
  cursorCredit,
  cursorHeartbeat,
  cursorOpen,
  cursorOpened,
  encodeFrame,
  errorName,
  type FrameHeader,
  failure,
  offsets,
  offsetsReply,
  ProtocolError,
  Reader,
  type RouteVersion,
} from '@millrace/protocol'
import type { Backoff } from './backoff.js'
import type { BrokerLink, CursorFrames, LinkUser } from './broker-link.js'
import type { Cluster } from './cluster.js'
import type { ClientTimer } from './environment.js'
import { errorOfCode, MillraceError, toMillraceError } from './errors.js'
import type { Inbox } from './inbox.js'
import { CURSOR_SILENCE_MS, LANE } from './limits.js'
import type { StartPosition, Until } from './subscribe-options.js'

/** What a cursor needs of its subscription. */
export interface CursorOwner {
  readonly cluster: Cluster
  readonly topicName: string
  /** Decoded bytes each partition may have received and not settled. */
  readonly shareBytes: number
  readonly until: Until | null
  /** It is known where `partition` begins. */
  onOpened(partition: number): void
  /** The inbox of `partition` has something to take. */
  onNews(partition: number): void
}

/** Names under which a partition is elsewhere now. */
const MOVED: ReadonlySet<string | null> = new Set(['MOVED', 'NOT_LEADER'])
/** The map names the topic: a broker that does not has yet to catch up, or the map will soon say that the topic is gone. */
const NOT_YET_KNOWN: ReadonlySet<string | null> = new Set(['UNKNOWN_TOPIC', 'UNKNOWN_PARTITION'])

export class Cursor implements LinkUser, CursorFrames {
  readonly #owner: CursorOwner
  readonly #inbox: Inbox<unknown, unknown>
  readonly #start: StartPosition
  readonly #backoff: Backoff
  #link: BrokerLink | null = null
  #state: 'waiting' | 'asking' | 'opening' | 'open' | 'closed' = 'waiting'
  #id = 0
  #retryTimer: ClientTimer | null = null
  /** Term of the route that was followed last. */
  #placedTerm = 0
  /** Version of the route under which the broker was asked last. */
  #asked: RouteVersion = { term: 0, placement: 0 }
  #opened = 0
  #receivedBytes = 0
  #credit = 0
  #lastSeenMs = 0
  #unopenedSinceMs: number
  /** Why it is not open, as far as that is known. */
  lastError: MillraceError | null = null
  /** Committed records end here, as last heard. */
  highWatermark = 0

  constructor(owner: CursorOwner, inbox: Inbox<unknown, unknown>, start: StartPosition) {
    this.#owner = owner
    this.#inbox = inbox
    this.#start = start
    this.#backoff = owner.cluster.newBackoff()
    this.#unopenedSinceMs = owner.cluster.environment.monotonicMs()
    if (owner.until !== null && owner.until !== 'end' && 'offset' in owner.until) inbox.endOffset = owner.until.offset
  }

  /** Null before the broker was asked. */
  get knownHighWatermark(): number | null {
    return this.#opened > 0 ? this.highWatermark : null
  }

  get partition(): number {
    return this.#inbox.partition
  }

  /** Goes where the partition lives now, as far as that is known. */
  place(): void {
    if (this.#state === 'closed') return
    const { cluster, topicName } = this.#owner
    const { topicId, partition } = this.#inbox
    const topic = cluster.map.topicById(topicId)
    if (topic === undefined) {
      this.#fatal(new MillraceError('ERR_MILLRACE_TOPIC_DELETED', `${topicName} was deleted`, this.#context()))
      return
    }
    const link = cluster.router.linkOf(topicId, partition)
    const term = topic.routes[partition]?.term ?? 0
    if (link !== this.#link) {
      this.#leave()
      this.#stopRetry()
      this.#link = link
      link?.use(this)
    } else if (term > this.#placedTerm) {
      // The same broker leads anew: what it refused before, it may serve now.
      this.#stopRetry()
      link?.nodeIsUp()
    }
    this.#placedTerm = term
    if (link === null) cluster.router.awaitLeader()
    if (this.#state === 'waiting' && this.#retryTimer === null && link?.ready) this.#begin(link)
  }

  #stopRetry(): void {
    this.#retryTimer?.cancel()
    this.#retryTimer = null
  }

  onLinkReady(): void {
    this.place()
  }

  onLinkDrain(): void {
    // Cursors send little; nothing waits for room.
  }

  onLinkLost(error: MillraceError): void {
    if (this.#state === 'closed') return
    this.lastError = error
    this.#notOpen()
  }

  /** Milliseconds for which the broker could not be asked for records, 0 while it is. */
  unopenedForMs(nowMs: number): number {
    return this.#state === 'open' || this.#state === 'closed' ? 0 : nowMs - this.#unopenedSinceMs
  }

  /** The next offset to receive, -1 before that is known. */
  get fetchOffset(): number {
    return this.#inbox.fetchOffset
  }

  /** The partition goes on and there is credit for it, but the records are not here. */
  get isOwed(): boolean {
    if (this.fetchOffset < 0 || this.highWatermark <= this.fetchOffset) return false
    return this.#state !== 'open' || this.#credit > this.#receivedBytes
  }

  /** Asks the broker anew, after something that it should have noticed. */
  reopen(detail: string): void {
    if (this.#state !== 'open') return
    this.#retry(new MillraceError('ERR_MILLRACE_TIMEOUT', detail, this.#context()), this.#backoff.next())
  }

  #notOpen(): void {
    if (this.#state === 'open') this.#unopenedSinceMs = this.#owner.cluster.environment.monotonicMs()
    this.#state = 'waiting'
  }

  /** Credit may have grown. */
  onSettled(): void {
    if (this.#state !== 'open') return
    const credit = this.#creditNow()
    const grown = credit - this.#credit
    // Seldom enough to cost nothing, early enough that the broker never runs dry while records are settled.
    if (grown <= 0 || (grown < this.#owner.shareBytes / 4 && this.#credit > this.#receivedBytes)) return
    this.#credit = credit
    this.#link?.post(encodeFrame(cursorCredit, { credit }, { id: this.#id }))
  }

  #creditNow(): number {
    return this.#receivedBytes + Math.max(0, this.#owner.shareBytes - this.#inbox.unsettledBytes)
  }

  /** Looks after a cursor from which nothing comes. */
  watch(nowMs: number): void {
    if (this.#state !== 'open' && this.#state !== 'opening') return
    const silentMs = nowMs - this.#lastSeenMs
    const { requestTimeoutMs } = this.#owner.cluster
    const limitMs = this.#state === 'open' ? CURSOR_SILENCE_MS : requestTimeoutMs
    if (silentMs < limitMs || (this.#state === 'open' && this.#credit <= this.#receivedBytes)) return
    const error = new MillraceError(
      'ERR_MILLRACE_TIMEOUT',
      `the cursor was silent for ${Math.round(silentMs)} ms`,
      this.#context(),
    )
    this.#retry(error, this.#backoff.next())
  }

  close(): void {
    if (this.#state === 'closed') return
    this.#stopRetry()
    this.#leave()
    this.#state = 'closed'
  }

  /** Lets go of the link. */
  #leave(): void {
    const link = this.#link
    this.#link = null
    if (link === null) return
    if (this.#state === 'open' || this.#state === 'opening') link.removeCursor(this.#id, true)
    this.#notOpen()
    link.release(this)
  }

  #begin(link: BrokerLink): void {
    const { until } = this.#owner
    const isEndKnown = this.#inbox.endOffset < Number.POSITIVE_INFINITY
    if (until === null || until === 'end' || !('timestamp' in until) || isEndKnown) this.#open(link)
    else this.#askEnd(link, until.timestamp)
  }

  #open(link: BrokerLink): void {
    const { cluster } = this.#owner
    const { topicId, partition, fetchOffset, lastTerm } = this.#inbox
    const started = fetchOffset >= 0
    this.#state = 'opening'
    this.#lastSeenMs = cluster.environment.monotonicMs()
    this.#receivedBytes = 0
    this.#credit = this.#creditNow()
    this.#id = link.addCursor(this)
    this.#takeVersion()
    const message = {
      topicId,
      partition,
      lane: LANE,
      routeVersion: this.#asked,
      start: started ? ('offset' as const) : this.#start.start,
      position: started ? fetchOffset : this.#start.position,
      lastTerm,
      credit: this.#credit,
    }
    link.post(encodeFrame(cursorOpen, message, { id: this.#id, timeMs: cluster.requestTimeoutMs }))
  }

  #takeVersion(): void {
    const { topicId, partition } = this.#inbox
    this.#asked = this.#owner.cluster.map.route(topicId, partition) ?? { term: 0, placement: 0 }
  }

  /** Finds the offset where `until: { timestamp }` ends this partition. */
  #askEnd(link: BrokerLink, timestamp: number): void {
    this.#state = 'asking'
    this.#takeVersion()
    const { topicId, partition } = this.#inbox
    const query = { topicId, partition, lane: LANE, kind: 'timestamp' as const, timestamp }
    const current = (): boolean => this.#state === 'asking' && this.#link === link
    link.ask(offsets, { queries: [query] }, offsetsReply.kind, {
      onReply: (_header, payload) => {
        const answer = offsetsReply.decode(new Reader(payload)).answers[0]
        if (answer === undefined) throw new ProtocolError('CORRUPT_FRAME', 'an answer without an offset')
        if (!current()) return
        this.#state = 'waiting'
        if (answer.code !== 0) return this.#refused({ ...answer, detail: '' })
        this.#inbox.endOffset = answer.offset
        this.place()
      },
      onFailed: (error, why) => {
        if (!current()) return
        this.#state = 'waiting'
        if (why !== 'lost') this.#failed(error)
      },
    })
  }

  onFrame(header: FrameHeader, payload: Uint8Array): void {
    if (header.id !== this.#id || (this.#state !== 'open' && this.#state !== 'opening')) return
    this.#lastSeenMs = this.#owner.cluster.environment.monotonicMs()
    const reader = new Reader(payload)
    if (header.kind === cursorOpened.kind) this.#takeOpened(reader)
    else if (header.kind === cursorBatches.kind) this.#takeBatches(reader)
    else if (header.kind === cursorHeartbeat.kind) this.#takeHeartbeat(reader)
    else if (header.kind === cursorClosed.kind) this.#takeClosed(cursorClosed.decode(reader))
    else {
      const { code, detail } = failure.decode(reader)
      this.#ended()
      this.#failed(errorOfCode(code, detail, this.#context()))
    }
  }

  #takeOpened(reader: Reader): void {
    const { startOffset, highWatermark, route } = cursorOpened.decode(reader)
    if (this.#state !== 'opening') throw new ProtocolError('CORRUPT_FRAME', 'a cursor was opened twice')
    this.#state = 'open'
    this.lastError = null
    this.highWatermark = highWatermark
    const inbox = this.#inbox
    const { cluster, until } = this.#owner
    if (inbox.fetchOffset < 0) inbox.startAt(startOffset)
    else this.#reopened()
    if (until === 'end' && inbox.endOffset === Number.POSITIVE_INFINITY) inbox.endOffset = highWatermark
    if (this.#opened++ === 0) this.#owner.onOpened(inbox.partition)
    if (inbox.done) this.#owner.onNews(inbox.partition)
    // Served by a hop between cores: right, but not where the partition lives. The map change moves the cursor.
    cluster.router.served(inbox.topicId, inbox.partition, this.#link!, route)
  }

  #reopened(): void {
    if (this.#opened === 0) return
    const { topicName: topic } = this.#owner
    const { partition, fetchOffset: offset } = this.#inbox
    const message = `${topic}/${partition} goes on at offset ${offset}`
    this.#owner.cluster.report('cursor-reopened', message, { topic, partition, offset })
  }

  #takeBatches(reader: Reader): void {
    if (this.#state !== 'open') throw new ProtocolError('CORRUPT_FRAME', 'batches of a cursor that is not open')
    const { highWatermark, batches } = cursorBatches.decode(reader)
    this.highWatermark = highWatermark
    this.#backoff.reset()
    try {
      this.#receivedBytes += this.#inbox.add(batches)
    } catch (cause) {
      this.#fatal(toMillraceError(cause, this.#context()))
      return
    }
    if (this.#inbox.hasNews) this.#owner.onNews(this.#inbox.partition)
    // Batches that are not delivered (control batches, what was received before) leave the credit as it was.
    this.onSettled()
  }

  #takeHeartbeat(reader: Reader): void {
    this.highWatermark = cursorHeartbeat.decode(reader).highWatermark
    this.#backoff.reset()
  }

  #takeClosed(closed: CursorClosed): void {
    this.#ended()
    this.#refused(closed)
  }

  /** The broker has closed the cursor. */
  #ended(): void {
    this.#link?.removeCursor(this.#id, false)
    this.#notOpen()
  }

  #refused(closed: Pick<CursorClosed, 'code' | 'detail' | 'route'> & Partial<CursorClosed>): void {
    const { router } = this.#owner.cluster
    const { topicId, partition } = this.#inbox
    const name = errorName(closed.code)
    const moved = MOVED.has(name)
    if (moved) router.refused(topicId, partition, this.#asked, closed.route)
    // A broker that no longer leads the partition knows no better than that it does not; the next one is asked.
    if (router.learn(topicId, partition, closed.route) || moved) {
      this.place()
      return
    }
    const error = errorOfCode(closed.code, closed.detail, this.#context())
    if (NOT_YET_KNOWN.has(name)) {
      router.suspect()
      this.#retry(error, this.#backoff.next())
      return
    }
    if (name !== 'OFFSET_OUT_OF_RANGE') {
      this.#failed(error)
      return
    }
    // What is gone is gone: skipping it silently would be loss, so the application hears where the log begins now.
    const { logStartOffset, highWatermark } = closed
    const range = `the partition holds ${logStartOffset} to ${highWatermark}`
    const detail = `${closed.detail || 'the offset is not there'}; ${range}`
    this.#failed(errorOfCode(closed.code, detail, { ...this.#context(), logStartOffset }))
  }

  #failed(error: MillraceError): void {
    if (error.retriable) this.#retry(error, this.#backoff.next())
    else this.#fatal(error)
  }

  #retry(error: MillraceError, delayMs: number): void {
    const { cluster, topicName: topic } = this.#owner
    const { partition } = this.#inbox
    if (this.#state === 'open' || this.#state === 'opening') this.#link?.removeCursor(this.#id, true)
    this.#notOpen()
    this.lastError = error
    cluster.report('cursor-retry', `${topic}/${partition}: ${error.message}`, { topic, partition, error })
    this.#retryTimer ??= cluster.environment.timer(delayMs, () => {
      this.#retryTimer = null
      this.place()
    })
  }

  #fatal(error: MillraceError): void {
    this.close()
    const { code, detail, cause, logStartOffset } = error
    this.#inbox.fail(new MillraceError(code, detail, { ...this.#context(), cause, logStartOffset }))
    this.#owner.onNews(this.#inbox.partition)
  }

  #context(): { topic: string; partition: number; offset: number | undefined; fatal: true } {
    const { partition, fetchOffset } = this.#inbox
    return { topic: this.#owner.topicName, partition, offset: fetchOffset < 0 ? undefined : fetchOffset, fatal: true }
  }
}
