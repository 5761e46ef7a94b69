// Requests to whoever leads one partition: found on the map, followed when it moves, asked again when no answer came. Only
// for requests that may be repeated, as all those of consumer groups: their coordinator leads a partition of __groups.
import {
  ADMIN_OPERATIONS,
  adminReply,
  admin as adminRequest,
  CODE_OK,
  ERROR_TABLE,
  errorName,
  GROUPS_TOPIC,
  type GroupPlace,
  type MessageCodec,
  ProtocolError,
  partitionOfKey,
  Reader,
  type Route,
} from '@millrace/protocol'
import { Backoff } from './backoff.js'
import type { BrokerLink, LinkPurpose, LinkUser } from './broker-link.js'
import type { Cluster, MapWaiter } from './cluster.js'
import { sendRequest } from './connection.js'
import type { ClientTimer } from './environment.js'
import { ConnectionError, errorOfCode, MillraceError } from './errors.js'
import { COORDINATOR_RETRY_MS } from './limits.js'

export interface LedReply {
  readonly code: number
  /** As the broker knows it; some answers do not tell. */
  readonly route?: Route
}

/** A request, made anew for each attempt. */
export interface LedRequest<M, R extends LedReply> {
  readonly codec: MessageCodec<M>
  readonly replyCodec: MessageCodec<R>
  message(place: Omit<GroupPlace, 'memberId'>): M
}

/** Another broker leads the partition. */
const MOVED: ReadonlySet<string | null> = new Set(['NOT_LEADER', 'MOVED'])
/** The map names the topic: a broker that does not know it has yet to catch up with the metadata. */
const NOT_YET_KNOWN: ReadonlySet<string | null> = new Set(['UNKNOWN_TOPIC', 'UNKNOWN_PARTITION'])
const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }
/** MessagePack of a map without fields. */
const NO_FIELDS = Uint8Array.of(0x80)

/** One request until it is answered. */
interface Asking {
  send(link: BrokerLink, place: Omit<GroupPlace, 'memberId'>): void
  fail(error: MillraceError): void
  /** Where its answer is awaited; null while it waits to be sent. */
  link: BrokerLink | null
}

export class LeaderRequests implements LinkUser {
  readonly #cluster: Cluster
  readonly #topicName: string
  readonly #partitionOf: (partitions: number) => number
  readonly #purpose: LinkPurpose
  readonly #backoff: Backoff
  readonly #askings = new Set<Asking>()
  readonly #stopListening: () => void
  #link: BrokerLink | null = null
  /** Runs while everything waits after a failure that may pass. */
  #retryTimer: ClientTimer | null = null
  #waiter: MapWaiter | null = null
  #isMakingTopic = false
  #stopped: MillraceError | null = null
  /** Why the last attempt of any request came to nothing. */
  lastError: MillraceError | null = null

  /** @param topicName GROUPS_TOPIC is made when it is not there; other topics must be. */
  constructor(
    cluster: Cluster,
    topicName: string,
    partitionOf: (partitions: number) => number,
    purpose: LinkPurpose = 'groups',
  ) {
    this.#cluster = cluster
    this.#topicName = topicName
    this.#partitionOf = partitionOf
    this.#purpose = purpose
    const { initialMs, maxMs } = cluster.options.retry
    const ceilingMs = Math.min(maxMs, COORDINATOR_RETRY_MS)
    this.#backoff = new Backoff(cluster.environment, { initialMs: Math.min(initialMs, ceilingMs), maxMs: ceilingMs })
    this.#stopListening = cluster.changes.listen(() => this.#place())
  }

  /**
   * Resolves with an answer that is final: done, or refused for a reason that asking again does not change.
   * @throws MillraceError when the coordinator was stopped, or the brokers refuse the request as a whole for good.
   */
  ask<M, R extends LedReply>(request: LedRequest<M, R>): Promise<R> {
    return new Promise((resolve, reject) => {
      if (this.#stopped !== null) {
        reject(this.#stopped)
        return
      }
      const asking: Asking = {
        link: null,
        send: (link, place) => this.#send(asking, link, place, request, resolve),
        fail: reject,
      }
      this.#askings.add(asking)
      this.#place()
    })
  }

  /** Fails what is asked, and asks nothing more. */
  stop(error: MillraceError): void {
    if (this.#stopped !== null) return
    this.#stopped = error
    this.#stopListening()
    this.#stopRetry()
    if (this.#waiter !== null) this.#cluster.forget(this.#waiter)
    this.#follow(null)
    this.#failAll(error)
  }

  onLinkReady(): void {
    this.#place()
  }

  onLinkLost(error: MillraceError): void {
    this.lastError = error
  }

  onLinkDrain(): void {
    // Requests of groups are small; nothing waits for room.
  }

  /** Goes to where the coordinator is now, and sends there what waits, or was sent to where it is no more. */
  #place(): void {
    if (this.#stopped !== null || this.#askings.size === 0) return
    const topic = this.#cluster.topic(this.#topicName)
    if (topic === undefined) {
      this.#makeTopic()
      return
    }
    const { topicId } = topic
    const partition = this.#partitionOf(topic.routes.length)
    const { router } = this.#cluster
    const link = router.linkOf(topicId, partition, this.#purpose)
    if (link === null) router.awaitLeader()
    this.#follow(link)
    if (link === null || !link.ready || this.#retryTimer !== null) return
    const { term, placement } = this.#cluster.map.route(topicId, partition) ?? { term: 0, placement: 0 }
    for (const asking of [...this.#askings]) {
      if (asking.link !== null) continue
      asking.link = link
      asking.send(link, { topicId, partition, routeVersion: { term, placement } })
    }
  }

  #follow(link: BrokerLink | null): void {
    const old = this.#link
    if (link === old) return
    this.#link = link
    link?.use(this)
    old?.release(this)
    this.#stopRetry()
    for (const asking of this.#askings) asking.link = null
  }

  #send<M, R extends LedReply>(
    asking: Asking,
    link: BrokerLink,
    place: Omit<GroupPlace, 'memberId'>,
    { codec, replyCodec, message }: LedRequest<M, R>,
    resolve: (reply: R) => void,
  ): void {
    const isCurrent = (): boolean => this.#askings.has(asking) && asking.link === link
    link.ask(codec, message(place), replyCodec.kind, {
      onReply: (_header, payload) => {
        const reply = replyCodec.decode(new Reader(payload))
        if (!isCurrent()) return
        if (!this.#isFinal(asking, link, place, reply)) return
        this.#backoff.reset()
        this.#askings.delete(asking)
        resolve(reply)
      },
      onFailed: (error, why) => {
        if (!isCurrent()) return
        this.lastError = error
        asking.link = null
        if (why === 'timeout') this.#cluster.router.suspect()
        if (why === 'lost') this.#place()
        else if (why === 'timeout' || error.retriable) this.#later()
        else {
          this.#askings.delete(asking)
          asking.fail(error)
        }
      },
    })
  }

  /** False: it is asked again. */
  #isFinal(
    asking: Asking,
    link: BrokerLink,
    place: Omit<GroupPlace, 'memberId'>,
    { code, route = NO_ROUTE }: LedReply,
  ): boolean {
    const { topicId, partition, routeVersion } = place
    const { router } = this.#cluster
    const name = code === CODE_OK ? null : errorName(code)
    if (code === CODE_OK) router.served(topicId, partition, link, route)
    if (MOVED.has(name)) {
      asking.link = null
      this.lastError = errorOfCode(code, '')
      router.refused(topicId, partition, routeVersion, route)
      this.#place()
      return false
    }
    const isTransient = name !== null && (ERROR_TABLE[name].retriable || NOT_YET_KNOWN.has(name))
    if (!isTransient) return true
    this.lastError = errorOfCode(code, '')
    if (NOT_YET_KNOWN.has(name)) router.suspect()
    asking.link = null
    this.#later()
    return false
  }

  #later(): void {
    this.#retryTimer ??= this.#cluster.environment.timer(this.#backoff.next(), () => {
      this.#retryTimer = null
      this.#place()
    })
  }

  #stopRetry(): void {
    this.#retryTimer?.cancel()
    this.#retryTimer = null
  }

  #failAll(error: MillraceError): void {
    const askings = [...this.#askings]
    this.#askings.clear()
    for (const { fail } of askings) fail(error)
  }

  // The topic of the coordinators, which the first group of a cluster has made.

  #makeTopic(): void {
    if (this.#waiter !== null || this.#isMakingTopic || this.#retryTimer !== null) return
    this.#waiter = {
      onMap: () => {
        this.#waiter = null
        if (this.#cluster.topic(this.#topicName) === undefined) this.#askForTopic()
        else this.#place()
      },
      onNoMap: (error) => {
        this.#waiter = null
        this.#failAll(error)
      },
    }
    this.#cluster.whenFresh(this.#waiter)
  }

  #askForTopic(): void {
    if (this.#topicName !== GROUPS_TOPIC) {
      this.#failAll(new MillraceError('ERR_MILLRACE_UNKNOWN_TOPIC', `there is no topic ${this.#topicName}`))
      return
    }
    const { controlConnection: connection, map, requestTimeoutMs } = this.#cluster
    if (connection === null) {
      this.#topicLater(new ConnectionError('the control connection is not up'))
      return
    }
    this.#isMakingTopic = true
    const message = { operation: ADMIN_OPERATIONS.createGroupsTopic, mapVersion: map.version, payload: NO_FIELDS }
    sendRequest(connection, adminRequest, message, adminReply.kind, requestTimeoutMs, {
      onReply: (_header, payload) => {
        const { code, detail } = adminReply.decode(new Reader(payload))
        const error = code === CODE_OK ? null : errorOfCode(code, detail)
        if (error === null || error.retriable) this.#topicLater(error)
        else this.#failAll(error)
      },
      onFailed: (error, why) => {
        if (why === 'refused' && !error.retriable) this.#failAll(error)
        else this.#topicLater(error)
      },
    })
  }

  /** Looks again in a while; when the topic was made, the map may say so before. */
  #topicLater(error: MillraceError | null): void {
    if (error !== null) this.lastError = error
    this.#isMakingTopic = false
    if (this.#stopped === null && this.#retryTimer === null) this.#later()
  }
}

/** Requests to the coordinator of a group. */
export function coordinatorOf(cluster: Cluster, group: string): LeaderRequests {
  // The rule for names allows ASCII only.
  const key = Uint8Array.from(group, (character) => character.charCodeAt(0))
  return new LeaderRequests(cluster, GROUPS_TOPIC, (partitions) => partitionOfKey(key, partitions))
}

/** A reply must have an answer for each entry of its request. @throws ProtocolError CORRUPT_FRAME. */
export function checkAnswers(answers: number, entries: number): void {
  if (answers !== entries) throw new ProtocolError('CORRUPT_FRAME', `${answers} answers to ${entries} entries`)
}
