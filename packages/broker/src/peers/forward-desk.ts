// Operations that a peer hands on to this broker: carried out, a bounded number at a time, and answered over the link.
import {
  CODE_OK,
  ERROR_TABLE,
  type ErrorName,
  type ForwardReply,
  forward,
  ProtocolError,
  type Reader,
} from '@millrace/protocol'
import { MAX_FORWARD_BYTES, MAX_FORWARDS_PER_PEER } from '../limits.js'
import { isBug, refusalOrBug } from '../server/failures.js'
import type { IncomingSession } from './incoming-session.js'
import type { PeerServices } from './peer-services.js'

const NO_BYTES = new Uint8Array(0)

interface Answer {
  /** On which the operation came; the peer forgets it when that is over. */
  readonly session: IncomingSession
  readonly id: number
  readonly reply: ForwardReply
}

export class ForwardDesk {
  readonly #services: PeerServices
  readonly #nodeId: number
  /** Sends an answer; false while there is no link. */
  readonly #send: (id: number, reply: ForwardReply) => boolean
  #underWay = 0
  #waiting: Answer[] = []

  constructor(services: PeerServices, nodeId: number, send: (id: number, reply: ForwardReply) => boolean) {
    this.#services = services
    this.#nodeId = nodeId
    this.#send = send
  }

  /** @throws ProtocolError for bytes that are no operation. */
  take(session: IncomingSession, id: number, payload: Reader): void {
    const operation = new Uint8Array(forward.decode(payload).payload)
    if (this.#underWay < MAX_FORWARDS_PER_PEER) void this.#carryOut(session, id, operation)
    else this.#answer({ session, id, reply: refused('OVERLOADED', 'too many operations of this broker are under way') })
  }

  /** The link is there: answers that waited for it leave. */
  linked(): void {
    const waiting = this.#waiting
    this.#waiting = []
    for (const answer of waiting) this.#answer(answer)
  }

  /** Always resolves. */
  async #carryOut(session: IncomingSession, id: number, operation: Uint8Array): Promise<void> {
    this.#underWay++
    const reply = await this.#replyTo(operation)
    this.#underWay--
    this.#answer({ session, id, reply })
  }

  async #replyTo(operation: Uint8Array): Promise<ForwardReply> {
    try {
      const payload = await this.#services.handlers.onForward(this.#nodeId, operation)
      if (payload.length <= MAX_FORWARD_BYTES) return { code: CODE_OK, detail: '', payload }
      throw new ProtocolError('FRAME_TOO_LARGE', `an answer of ${payload.length} bytes`)
    } catch (error) {
      if (isBug(error)) this.#services.reportBug(error)
      const { code, detail } = refusalOrBug(error)
      return refused(code, detail)
    }
  }

  #answer(answer: Answer): void {
    if (!answer.session.isOpen || this.#send(answer.id, answer.reply)) return
    if (this.#waiting.length < MAX_FORWARDS_PER_PEER) this.#waiting.push(answer)
  }
}

function refused(code: ErrorName, detail: string): ForwardReply {
  return { code: ERROR_TABLE[code].code, detail, payload: NO_BYTES }
}
