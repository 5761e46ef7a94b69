// A connection as handlers see it: requests to answer, frames to push, cursors to serve.
import type { MessageCodec } from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { Refusal } from '../partition/pending-batch.js'
import type { ServerContext } from './context.js'
import type { CursorSet } from './cursor-set.js'

/** A request from its frame to its answer. */
export interface Request {
  readonly id: number
  readonly kind: number
  /** Payload bytes, counted against the connection's limit until the request ends. */
  readonly bytes: number
  /** Monotonic milliseconds after which nothing may be done for it any more; Infinity for never. */
  readonly expiresAtMs: number
}

/** The payload of a request. */
export interface Frame {
  /** Valid only until the handler returns, unless `block` is set. */
  readonly payload: Uint8Array
  /** Holds the payload of a PRODUCE from its first byte on; the handler gives it back. */
  readonly block: Block | null
}

export type Handler = (peer: Peer, request: Request, frame: Frame) => void

export interface Peer {
  /** Set while silence of the client is welcome: it follows the map. */
  isFollowing: boolean
  readonly context: ServerContext
  readonly cursors: CursorSet
  /** Answers a request, which ends with it. */
  answer<T>(request: Request, codec: MessageCodec<T>, message: T): void
  /** Refuses a request as a whole; closes the connection when the error is fatal. */
  refuse(request: Request, refusal: Refusal): void
  /** Ends a request that has no answer. */
  finish(request: Request): void
  /** Sends a frame that answers no request. */
  send<T>(codec: MessageCodec<T>, message: T, id: number): void
  /** Awaits a handler; what it throws refuses the request. */
  attend(request: Request, work: Promise<void>): void
  /** Called when the connection has closed. */
  onceClosed(callback: () => void): void
}
