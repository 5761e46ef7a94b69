// The data connection to one core of one broker: opened when something in use needs it, opened again after a loss, and
// shared by the batches and cursors routed there. Consumer groups have connections of their own.
import {
  adminReply,
  cursorBatches,
  cursorClose,
  cursorClosed,
  cursorHeartbeat,
  cursorOpened,
  encodeFrame,
  type FrameHeader,
  failure,
  groupBeatReply,
  groupCommitReply,
  groupJoined,
  type HelloReply,
  type MessageCodec,
  messageName,
  offsetsReply,
  ProtocolError,
  produceReply,
} from '@millrace/protocol'
import type { Address } from './address.js'
import type { Backoff } from './backoff.js'
import { Connection, type ReplyHandler, sendRequest } from './connection.js'
import type { ClientEnvironment, ClientTimer } from './environment.js'
import { ConnectionError, closedError, type MillraceError } from './errors.js'
import type { FrameBuffers } from './frame-buffers.js'
import { LINK_IDLE_MS } from './limits.js'

/** Groups have connections of their own, so that the lease of a member never waits behind records. */
export type LinkPurpose = 'data' | 'groups'

/** What a link needs to know of the cluster, and whom it tells. */
export interface LinkOwner {
  readonly environment: ClientEnvironment
  readonly clientId: string
  readonly clusterId: string | null
  readonly connectTimeoutMs: number
  readonly requestTimeoutMs: number
  readonly frames: FrameBuffers
  /** Where the node listens as known now; undefined when the map does not hold it. */
  addressOf(nodeId: number): Address | undefined
  newBackoff(): Backoff
  linkUp(link: BrokerLink, again: boolean): void
  linkLost(link: BrokerLink, error: MillraceError): void
  /** Nothing has needed the link for long; it is closed and must not be used again. */
  linkIdle(link: BrokerLink): void
}

/** Whoever needs the link open. */
export interface LinkUser {
  onLinkReady(): void
  onLinkLost(error: MillraceError): void
  onLinkDrain(): void
}

export interface CursorFrames {
  /** May throw ProtocolError, which ends the connection. */
  onFrame(header: FrameHeader, payload: Uint8Array): void
}

const CURSOR_KINDS: ReadonlySet<number> = new Set(
  [cursorOpened, cursorBatches, cursorHeartbeat, cursorClosed, failure].map(({ kind }) => kind),
)

const LATE_REPLIES: ReadonlySet<number> = new Set(
  [produceReply, offsetsReply, groupJoined, groupBeatReply, groupCommitReply, adminReply].map(({ kind }) => kind),
)

export class BrokerLink {
  readonly #owner: LinkOwner
  readonly #users = new Set<LinkUser>()
  readonly #cursors = new Map<number, CursorFrames>()
  readonly #backoff: Backoff
  #connection: Connection | null = null
  #retryTimer: ClientTimer | null = null
  #retryAtMs = 0
  #idleTimer: ClientTimer | null = null
  #wasReady = false
  #closed = false

  constructor(
    owner: LinkOwner,
    readonly nodeId: number,
    readonly shard: number,
    readonly purpose: LinkPurpose = 'data',
  ) {
    this.#owner = owner
    this.#backoff = owner.newBackoff()
  }

  get ready(): boolean {
    return this.#connection?.ready ?? false
  }

  get unsentBytes(): number {
    return this.#connection?.unsentBytes ?? 0
  }

  get requestTimeoutMs(): number {
    return this.#owner.requestTimeoutMs
  }

  get maxFrameBytes(): number {
    return this.#connection?.maxFrameBytes ?? 0
  }

  /** Keeps the link open from now on; `onLinkReady` follows unless it is ready already. */
  use(user: LinkUser): void {
    const isNew = !this.#users.has(user)
    this.#users.add(user)
    if (this.#connection !== null) return
    if (this.#retryTimer === null) this.#dial()
    else if (isNew) this.nodeIsUp()
  }

  /** There is reason to believe that the node can be reached: what waits for the next attempt need not wait long. */
  nodeIsUp(): void {
    if (this.#retryTimer === null) return
    this.#backoff.reset()
    const delayMs = this.#backoff.next()
    if (this.#owner.environment.monotonicMs() + delayMs < this.#retryAtMs) this.#retryAfter(delayMs)
  }

  release(user: LinkUser): void {
    if (!this.#users.delete(user) || this.#users.size > 0 || this.#closed) return
    this.#idleTimer?.cancel()
    this.#idleTimer = this.#owner.environment.timer(LINK_IDLE_MS, () => {
      if (this.#users.size > 0) return
      this.close(closedError('an idle connection'))
      this.#owner.linkIdle(this)
    })
  }

  /** Looks at the map again: a node that was unknown or has moved is dialled at once. */
  mapChanged(): void {
    if (this.#closed || this.#users.size === 0) return
    const address = this.#owner.addressOf(this.nodeId)
    const target = this.#connection?.target
    const moved =
      address !== undefined && target !== undefined && (address.host !== target.host || address.port !== target.port)
    if (target === undefined ? this.#retryTimer === null : moved && !this.ready) this.#dial()
  }

  /** Sends a frame whose id came from `nextId`; the reply is matched by it. */
  request(id: number, chunks: readonly Uint8Array[], replyKind: number, handler: ReplyHandler): void {
    if (this.#connection === null) {
      handler.onFailed(this.#notConnected(), 'lost')
      return
    }
    this.#connection.request(id, chunks, replyKind, this.requestTimeoutMs, handler)
  }

  /** Sends a request whose whole payload is one message. */
  ask<T>(codec: MessageCodec<T>, message: T, replyKind: number, handler: ReplyHandler): void {
    if (this.#connection === null) {
      handler.onFailed(this.#notConnected(), 'lost')
      return
    }
    sendRequest(this.#connection, codec, message, replyKind, this.requestTimeoutMs, handler)
  }

  nextId(): number {
    return this.#connection?.nextId() ?? 0
  }

  send(chunks: readonly Uint8Array[]): void {
    this.#connection?.send(chunks)
  }

  post(frame: Uint8Array): void {
    this.#connection?.post(frame)
  }

  /** Frames with this id go to `cursor` until it is closed or the link is lost. */
  addCursor(cursor: CursorFrames): number {
    const id = this.nextId()
    this.#cursors.set(id, cursor)
    this.#connection?.expectPushes()
    return id
  }

  /** Forgets the cursor; `tell` says whether the broker must be told. */
  removeCursor(id: number, tell: boolean): void {
    if (!this.#cursors.delete(id)) return
    this.#connection?.release()
    if (tell) this.post(encodeFrame(cursorClose, {}, { id }))
  }

  close(error: MillraceError): void {
    this.#closed = true
    this.#retryTimer?.cancel()
    this.#retryTimer = null
    this.#idleTimer?.cancel()
    this.#users.clear()
    this.#cursors.clear()
    const connection = this.#connection
    this.#connection = null
    connection?.destroy(error)
  }

  #notConnected(): ConnectionError {
    return new ConnectionError(`not connected to node ${this.nodeId}, core ${this.shard}`)
  }

  #dial(): void {
    this.#retryTimer?.cancel()
    this.#retryTimer = null
    const owner = this.#owner
    const address = owner.addressOf(this.nodeId)
    if (address === undefined) return
    const old = this.#connection
    const target = {
      host: address.host,
      port: address.port,
      clusterId: owner.clusterId,
      nodeId: this.nodeId,
      shard: this.shard,
    }
    const { clientId, connectTimeoutMs: openTimeoutMs, frames } = owner
    const options = { clientId, openTimeoutMs, allocate: frames.take }
    const connection: Connection = new Connection(owner.environment, target, options, {
      onReady: (reply) => this.#opened(reply),
      onPush: (header, payload) => this.#push(header, payload),
      onDrain: () => {
        for (const user of [...this.#users]) user.onLinkDrain()
      },
      onClosed: (error) => this.#lost(connection, error),
    })
    this.#connection = connection
    old?.destroy(closedError('the old connection'))
  }

  #retryAfter(delayMs: number): void {
    const { environment } = this.#owner
    this.#retryTimer?.cancel()
    this.#retryAtMs = environment.monotonicMs() + delayMs
    this.#retryTimer = environment.timer(delayMs, () => {
      this.#retryTimer = null
      if (this.#users.size > 0) this.#dial()
    })
  }

  #opened(_reply: HelloReply): void {
    this.#backoff.reset()
    const again = this.#wasReady
    this.#wasReady = true
    this.#owner.linkUp(this, again)
    for (const user of [...this.#users]) user.onLinkReady()
  }

  #push(header: FrameHeader, payload: Uint8Array): void {
    const cursor = this.#cursors.get(header.id)
    if (cursor !== undefined && CURSOR_KINDS.has(header.kind)) {
      cursor.onFrame(header, payload)
      return
    }
    // Late frames of cursors and requests that are over are expected; anything else is not.
    if (CURSOR_KINDS.has(header.kind) || LATE_REPLIES.has(header.kind)) return
    throw new ProtocolError('UNKNOWN_KIND', `${messageName(header.kind)} on a data connection`)
  }

  #lost(connection: Connection, error: MillraceError): void {
    if (this.#connection !== connection || this.#closed) return
    this.#connection = null
    this.#cursors.clear()
    if (this.#users.size > 0) this.#retryAfter(this.#backoff.next())
    // Users may move to other links while they are told.
    for (const user of [...this.#users]) user.onLinkLost(error)
    this.#owner.linkLost(this, error)
  }
}
