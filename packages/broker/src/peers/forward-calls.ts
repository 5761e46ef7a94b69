// Operations that were handed on to a peer and are not answered yet.
import { CODE_OK, errorName, type ForwardReply, ProtocolError } from '@millrace/protocol'
import type { Clock, Timer } from '../environment.js'

/**
 * `notSent`: the operation never left, so it was not carried out. `lost` and `timedOut`: nobody knows whether it was.
 */
export type ForwardErrorCode = 'notSent' | 'lost' | 'timedOut'

export class ForwardError extends Error {
  override readonly name = 'ForwardError'
  constructor(
    readonly code: ForwardErrorCode,
    message: string,
  ) {
    super(message)
  }
}

interface Call {
  readonly to: number
  readonly timer: Timer
  resolve(payload: Uint8Array): void
  reject(error: Error): void
}

export class ForwardCalls {
  readonly #calls = new Map<number, Call>()
  readonly #clock: Clock
  #nextId: number

  /** @param firstId drawn at random, so that answers to calls of an earlier start meet nobody. */
  constructor(clock: Clock, firstId: number) {
    this.#clock = clock
    this.#nextId = firstId
  }

  get pending(): number {
    return this.#calls.size
  }

  /**
   * Begins a call. @param send hands it on under its id; false when it could not.
   * @throws ForwardError, ProtocolError of the peer.
   */
  begin(to: number, timeoutMs: number, send: (id: number) => boolean): Promise<Uint8Array> {
    const id = this.#nextId
    this.#nextId = (id + 1) >>> 0
    if (!send(id)) return Promise.reject(new ForwardError('notSent', `there is no connection with node ${to}`))
    return new Promise((resolve, reject) => {
      const timer = this.#clock.timer(timeoutMs, () => {
        this.#calls.delete(id)
        reject(new ForwardError('timedOut', `node ${to} did not answer within ${timeoutMs} ms`))
      })
      this.#calls.set(id, { to, timer, resolve, reject })
    })
  }

  /** An answer; one that nobody waits for any more is dropped. `reply.payload` is copied. */
  answered(from: number, id: number, reply: ForwardReply): void {
    const call = this.#calls.get(id)
    if (call === undefined || call.to !== from) return
    this.#calls.delete(id)
    call.timer.cancel()
    if (reply.code === CODE_OK) call.resolve(new Uint8Array(reply.payload))
    else call.reject(new ProtocolError(errorName(reply.code) ?? 'INTERNAL', reply.detail))
  }

  /** The link with a node is gone: its calls end with an unknown outcome. */
  lost(nodeId: number): void {
    for (const [id, call] of this.#calls) {
      if (call.to !== nodeId) continue
      this.#calls.delete(id)
      call.timer.cancel()
      call.reject(new ForwardError('lost', `the connection with node ${nodeId} was lost before its answer came`))
    }
  }
}
