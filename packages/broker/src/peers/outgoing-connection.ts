// One connection that this broker has dialled: it says who it is, and once the peer has accepted, everything this broker
// has to say goes out here. Nothing comes back but the answer to PEER_HELLO, or why the peer closes.
import {
  encodeFrame,
  errorName,
  type Forward,
  type ForwardReply,
  FrameDecoder,
  type FrameHeader,
  failure,
  forward,
  forwardReply,
  type GroupMessage,
  gossip,
  gossipReply,
  leaders,
  leadersWanted,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  MAX_LEADERS_PER_FRAME,
  MAX_RAFT_MESSAGES_PER_FRAME,
  type MessageCodec,
  messageName,
  type PeerHelloReply,
  ProtocolError,
  peerBeat,
  peerHello,
  peerHelloReply,
  type RaftAppend,
  type RaftInstall,
  Reader,
  type RouteChange,
  raft,
  raftAppend,
  raftInstall,
  type SetBeat,
  type SetBeatReply,
  setBeat,
  setBeatReply,
  Writer,
} from '@millrace/protocol'
import { type Environment, NetworkError, type Stream, type StreamHandler } from '../environment.js'
import {
  CLOCK_BEAT_MS,
  MAX_INSTALL_STATE_BYTES,
  MAX_PEER_UNSENT_BYTES,
  PEER_BEAT_MS,
  PEER_HELLO_TIMEOUT_MS,
} from '../limits.js'
import type { Metrics } from '../metrics.js'
import { isBug } from '../server/failures.js'
import type { LogKey, LogRead } from '../storage/log-store.js'
import type { PeerIdentity } from './peer-identity.js'

/** Every frame is encoded here and copied by the stream at once. */
const FRAMES = new Writer(64 * 1024)

export interface OutgoingOwner {
  /** Checks who has answered. @throws ProtocolError */
  checkReply(reply: PeerHelloReply): void
  onOpen(): void
  /** Called once, when nothing will be sent any more; the stream may still be on its way to its end. */
  onLost(reason: Error | null): void
  /** Called once, last: all memory is given back. */
  onClosed(): void
  /** Something was thrown that is nobody's fault but our own. */
  reportBug(error: unknown): void
  /** Leaderships that could not be told because too much was unsent: now is the time to tell all. */
  allLeaderships(): readonly RouteChange[]
}

export interface OutgoingOptions {
  readonly environment: Environment
  readonly self: PeerIdentity
  readonly software: string
  readonly metrics: Metrics
}

export class OutgoingConnection implements StreamHandler {
  #state: 'greeting' | 'open' | 'over' = 'greeting'
  readonly #stream: Stream
  readonly #options: OutgoingOptions
  readonly #owner: OutgoingOwner
  readonly #decoder: FrameDecoder
  readonly #greetedAtMs: number
  #openedAtMs = 0
  #beatAtMs = 0
  #spokeAtMs = 0
  /** Small Raft messages of this turn. */
  #pending: GroupMessage[] = []
  #flushing = false
  #owesLeaderships = false

  constructor(stream: Stream, options: OutgoingOptions, owner: OutgoingOwner) {
    this.#stream = stream
    this.#options = options
    this.#owner = owner
    this.#greetedAtMs = options.environment.clock.monotonicMs()
    this.#decoder = new FrameDecoder(MAX_FRAME_BYTES_BEFORE_HELLO, (header, payload) => this.#onFrame(header, payload))
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Monotonic milliseconds of the peer's answer. */
  get openedAtMs(): number {
    return this.#openedAtMs
  }

  get unsentBytes(): number {
    return this.#stream.unsentBytes
  }

  /** Says who this is. Once, when the stream knows its handler. */
  greet(expectedNodeId: number): void {
    if (this.#state !== 'greeting') return
    const { clusterId, nodeId, diskId, starts, versions } = this.#options.self
    this.#send(peerHello, {
      minVersion: versions.min,
      maxVersion: versions.max,
      features: 0,
      clusterId,
      nodeId,
      diskId,
      starts,
      expectedNodeId,
      software: this.#options.software,
    })
  }

  // -------------------------------------------------------------- what the stream says

  onBytes(chunk: Uint8Array): void {
    if (this.#state === 'over') return
    try {
      this.#decoder.push(chunk)
    } catch (error) {
      if (isBug(error)) this.#owner.reportBug(error)
      this.end(error instanceof Error ? error : new Error('taking what the peer said', { cause: error }))
    }
  }

  onFilled(): void {}

  onClosed(error: Error | null): void {
    this.#finish(error)
    this.#owner.onClosed()
  }

  #onFrame(header: FrameHeader, payload: Uint8Array): void {
    if (this.#state === 'over') return
    const reader = new Reader(payload)
    if (header.kind === failure.kind) {
      const { code, detail } = failure.decode(reader)
      throw new ProtocolError(errorName(code) ?? 'INTERNAL', `the peer says: ${detail}`)
    }
    if (this.#state !== 'greeting' || header.kind !== peerHelloReply.kind) {
      throw new ProtocolError('UNKNOWN_KIND', `${messageName(header.kind)} from a peer that was dialled`)
    }
    this.#owner.checkReply(peerHelloReply.decode(reader))
    this.#state = 'open'
    this.#openedAtMs = this.#options.environment.clock.monotonicMs()
    this.#owner.onOpen()
  }

  /** Sends what is queued, then closes; the owner is not told of a loss any more. */
  close(): void {
    if (this.#state === 'over') return
    this.#flush()
    this.#state = 'over'
    this.#stream.end()
  }

  /** Closes at once and tells the owner; harmless when repeated. */
  end(reason: Error | null): void {
    this.#stream.destroy()
    this.#finish(reason)
  }

  #finish(reason: Error | null): void {
    if (this.#state === 'over') return
    this.#state = 'over'
    this.#pending = []
    this.#owner.onLost(reason)
  }

  /** Looks at the time: beats, and no more patience with a peer that does not answer PEER_HELLO. */
  tick(nowMs: number): void {
    if (this.#state === 'greeting' && nowMs - this.#greetedAtMs > PEER_HELLO_TIMEOUT_MS) {
      this.end(new NetworkError('TIMED_OUT', `no answer to PEER_HELLO within ${PEER_HELLO_TIMEOUT_MS} ms`))
    }
    if (this.#state !== 'open') return
    // Whatever was said lately is a sign of life as good as any.
    const isQuiet = nowMs - this.#spokeAtMs >= PEER_BEAT_MS / 2 || nowMs - this.#beatAtMs >= CLOCK_BEAT_MS
    if (isQuiet && !this.#isFull) {
      this.#beatAtMs = nowMs
      this.#send(peerBeat, { wallMs: this.#options.environment.clock.wallMs() })
    }
    if (this.#owesLeaderships && !this.#isFull) {
      this.#owesLeaderships = false
      this.announce(this.#owner.allLeaderships())
    }
  }

  // -------------------------------------------------------------- what this broker says

  /** A small message; it leaves when the turn ends, with all others of the turn. False when it was dropped. */
  sendRaft(message: GroupMessage): boolean {
    if (this.#state !== 'open' || this.#isFull) return false
    this.#pending.push(message)
    if (this.#pending.length >= MAX_RAFT_MESSAGES_PER_FRAME) this.#flush()
    else if (!this.#flushing) {
      this.#flushing = true
      this.#options.environment.clock.defer(() => {
        this.#flushing = false
        this.#flush()
      })
    }
    return true
  }

  /** Entries, straight from where they are read. Takes the read over in any case. False when they were not sent. */
  sendAppend(group: LogKey, header: Omit<RaftAppend, 'group' | 'batchCount' | 'batchesStart'>, read: LogRead): boolean {
    const { pieces, byteLength, batchCount } = read
    if (this.#state !== 'open' || this.#isFull) {
      read.release()
      return false
    }
    // Messages of a group stay in order.
    this.#flush()
    const message = { ...header, group, batchCount, batchesStart: 0 }
    this.#send(raftAppend, message, { extraPayloadBytes: byteLength })
    this.#options.metrics.peerBytesSent += byteLength
    let left = pieces.length
    const release = (): void => {
      if (--left === 0) read.release()
    }
    for (const { block, offset, length } of pieces) this.#stream.writeBlock(block, offset, length, release)
    return true
  }

  sendSetBeat(beat: SetBeat): boolean {
    return this.#sendInOrder(setBeat, beat)
  }

  sendSetBeatReply(reply: SetBeatReply): boolean {
    return this.#sendInOrder(setBeatReply, reply)
  }

  /** Behind everything that was said of groups in this turn. */
  #sendInOrder<T>(codec: MessageCodec<T>, message: T): boolean {
    if (this.#state !== 'open' || this.#isFull) return false
    this.#flush()
    this.#send(codec, message)
    return true
  }

  /** A group's state, copied into memory of the environment. False when it was not sent. */
  sendInstall(message: RaftInstall): boolean {
    const { length } = message.state
    if (this.#state !== 'open' || this.#isFull || length > MAX_INSTALL_STATE_BYTES) return false
    const { memory } = this.#options.environment
    const block = length === 0 ? null : memory.allocate(length)
    if (length > 0 && block === null) return false
    this.#flush()
    this.#send(raftInstall, { ...message, state: NO_BYTES }, { extraPayloadBytes: length })
    if (block === null) return true
    block.bytes.set(message.state)
    this.#options.metrics.peerBytesSent += length
    this.#stream.writeBlock(block, 0, length, () => memory.release(block))
    return true
  }

  /** Leaders must not be lost while the connection lasts: what cannot be told now is told with all others later. */
  announce(changes: readonly RouteChange[]): void {
    if (this.#state !== 'open') return
    for (let at = 0; at < changes.length; at += MAX_LEADERS_PER_FRAME) {
      if (this.#isFull) {
        this.#owesLeaderships = true
        return
      }
      this.#send(leaders, { changes: changes.slice(at, at + MAX_LEADERS_PER_FRAME) })
    }
  }

  sendForward(id: number, message: Forward, timeoutMs: number): boolean {
    if (this.#state !== 'open' || this.#isFull) return false
    this.#send(forward, message, { id, timeMs: timeoutMs })
    return true
  }

  sendForwardReply(id: number, message: ForwardReply): boolean {
    if (this.#state !== 'open' || this.#isFull) return false
    this.#send(forwardReply, message, { id })
    return true
  }

  /** A sealed state of gossip: a question, or the answer to one. */
  sendGossip(id: number, payload: Uint8Array, kind: 'question' | 'answer'): boolean {
    if (this.#state !== 'open' || this.#isFull) return false
    this.#send(kind === 'question' ? gossip : gossipReply, { payload }, { id })
    return true
  }

  sendLeadersWanted(): boolean {
    return this.#sendInOrder(leadersWanted, {})
  }

  get #isFull(): boolean {
    return this.#stream.unsentBytes >= MAX_PEER_UNSENT_BYTES
  }

  #flush(): void {
    if (this.#pending.length === 0 || this.#state !== 'open') return
    const messages = this.#pending
    this.#pending = []
    this.#send(raft, { messages })
  }

  #send<T>(
    codec: MessageCodec<T>,
    message: T,
    { id = 0, timeMs = 0, extraPayloadBytes = 0 }: { id?: number; timeMs?: number; extraPayloadBytes?: number } = {},
  ): void {
    const frame = encodeFrame(codec, message, { id, timeMs, extraPayloadBytes, writer: FRAMES })
    this.#options.metrics.peerFramesSent++
    this.#spokeAtMs = this.#options.environment.clock.monotonicMs()
    this.#options.metrics.peerBytesSent += frame.length
    this.#stream.write(frame)
  }
}

const NO_BYTES = new Uint8Array(0)
