// One connection that a peer has dialled: everything it says comes in here. Nothing is said back, but why it is closed.
import {
  ERROR_TABLE,
  encodeFrame,
  type FrameHeader,
  failure,
  forward,
  forwardReply,
  gossip,
  gossipReply,
  leaders,
  leadersWanted,
  MAX_FRAME_BYTES,
  messageName,
  ProtocolError,
  peerBeat,
  REQUIRED_FEATURE_FLAGS,
  Reader,
  raft,
  raftAppend,
  raftInstall,
  setBeat,
  setBeatReply,
} from '@millrace/protocol'
import type { Block, Environment, Stream } from '../environment.js'
import { MAX_CONTROL_FRAME_BYTES, PEER_RUN_BYTES, PEER_STOP_MS } from '../limits.js'
import type { Metrics } from '../metrics.js'
import { isBug, refusalOrBug } from '../server/failures.js'
import type { FrameMemory, FrameMemoryWaiter } from '../server/frame-memory.js'
import type { FrameOwner, FrameReader, PayloadPlace } from '../server/frame-reader.js'
import type { AcceptedPeer } from '../server/peer-acceptor.js'

/** What the frames of a session are for. `payload` is valid during the call, or as long as `block` is kept. */
export interface SessionOwner {
  /** Bytes have come: the peer lives. */
  heard(): void
  /** @param wallMs wall clock of the peer. */
  onBeat(wallMs: number): void
  onRaft(payload: Reader): void
  /** @param block holds the payload, and is the owner's from now on. */
  onAppend(payload: Uint8Array, block: Block): void
  onInstall(payload: Reader): void
  onSetBeat(payload: Reader): void
  onSetBeatReply(payload: Reader): void
  onLeaders(payload: Reader): void
  onForward(session: IncomingSession, id: number, payload: Reader): void
  onForwardReply(id: number, payload: Reader): void
  onGossip(id: number, payload: Reader): void
  onGossipReply(id: number, payload: Reader): void
  onLeadersWanted(): void
  /** Called once, when nothing of the session will be taken any more, and once when its stream has closed. */
  onOver(session: IncomingSession): void
  onClosed(session: IncomingSession): void
  /** Something was thrown that is nobody's fault but our own. */
  reportBug(error: unknown): void
}

/** Kinds of a peer's frames, and where their payload goes. */
const PLACES = new Map<number, PayloadPlace>([
  [peerBeat.kind, 'heap'],
  [raft.kind, 'heap'],
  [setBeat.kind, 'heap'],
  [setBeatReply.kind, 'heap'],
  [raftAppend.kind, 'block'],
  [raftInstall.kind, 'block'],
  [leaders.kind, 'heap'],
  [forward.kind, 'heap'],
  [forwardReply.kind, 'heap'],
  [gossip.kind, 'heap'],
  [gossipReply.kind, 'heap'],
  [leadersWanted.kind, 'heap'],
])

export class IncomingSession implements AcceptedPeer, FrameOwner, FrameMemoryWaiter {
  #state: 'open' | 'closing' | 'closed' = 'open'
  /** It waits for frame memory, and its last attempt to get some failed. */
  #inLine = false
  #lacksMemory = false
  #current: FrameHeader | null = null
  #closingSinceMs = 0

  constructor(
    readonly nodeId: number,
    private readonly stream: Stream,
    private readonly reader: FrameReader,
    private readonly services: {
      readonly environment: Environment
      readonly frameMemory: FrameMemory
      readonly metrics: Metrics
    },
    private readonly owner: SessionOwner,
  ) {
    reader.handTo(this, PEER_RUN_BYTES)
  }

  get isOpen(): boolean {
    return this.#state === 'open'
  }

  /** Whether it is this broker that does not read on. */
  get isHeld(): boolean {
    return this.reader.held
  }

  // -------------------------------------------------------------- what the stream says

  onBytes(chunk: Uint8Array): void {
    this.services.metrics.peerBytesReceived += chunk.length
    this.#attempt(() => this.reader.push(chunk))
  }

  onFilled(): void {
    this.#attempt(() => this.reader.filledInPlace())
  }

  onClosed(error: Error | null): void {
    this.#over('closed')
    this.owner.onClosed(this)
    const unfinished = this.reader.takeUnfinishedBlock()
    if (unfinished !== null) this.services.frameMemory.give(unfinished)
    if (error !== null) {
      this.services.environment.log.debug({ node: this.nodeId, error }, 'connection of a peer lost')
    }
  }

  #attempt(work: () => void): void {
    if (this.#state !== 'open') return
    this.owner.heard()
    try {
      work()
    } catch (error) {
      this.failed(error)
    }
  }

  /** What the peer says makes no sense, or taking it showed a bug: says so and closes. */
  failed(error: unknown): void {
    if (this.#state !== 'open') return
    if (isBug(error)) this.owner.reportBug(error)
    const { code, detail } = refusalOrBug(error)
    const { log } = this.services.environment
    const kind = messageName(this.#current?.kind ?? 0)
    log.warn({ node: this.nodeId, peer: this.stream.peer, kind, code, detail }, 'a peer is refused')
    this.services.metrics.refused(code)
    const answeredKind = this.#current?.kind ?? 0
    this.stream.write(encodeFrame(failure, { code: ERROR_TABLE[code].code, answeredKind, detail }, { id: 0 }))
    this.close()
  }

  /** Sends what is queued, then closes; what still comes is dropped. */
  close(): void {
    if (this.#state !== 'open') return
    this.#closingSinceMs = this.services.environment.clock.monotonicMs()
    this.stream.end()
    this.#over('closing')
  }

  /** The peer does not even take the end: no more patience. */
  tick(nowMs: number): void {
    if (this.#state === 'closing' && nowMs - this.#closingSinceMs > PEER_STOP_MS) this.stream.destroy()
  }

  destroy(): void {
    this.stream.destroy()
    this.#over('closing')
  }

  #over(state: 'closing' | 'closed'): void {
    const wasOpen = this.#state === 'open'
    if (this.#state !== 'closed') this.#state = state
    this.reader.stop()
    if (wasOpen) this.owner.onOver(this)
  }

  // -------------------------------------------------------------- what the frame reader asks

  mayBegin(): boolean {
    return true
  }

  checkFirstBytes(_bytes: Uint8Array): void {}

  placeOf(header: FrameHeader): PayloadPlace {
    this.#current = header
    const place = PLACES.get(header.kind)
    if (place === undefined) throw new ProtocolError('UNKNOWN_KIND', `${messageName(header.kind)} from a peer`)
    const limit = place === 'block' ? MAX_FRAME_BYTES : MAX_CONTROL_FRAME_BYTES
    if (header.length > limit) {
      throw new ProtocolError('FRAME_TOO_LARGE', `${messageName(header.kind)} of ${header.length} bytes, over ${limit}`)
    }
    if ((header.flags & REQUIRED_FEATURE_FLAGS) !== 0) {
      const bits = (header.flags & REQUIRED_FEATURE_FLAGS).toString(16)
      throw new ProtocolError('UNSUPPORTED_FEATURE', `${messageName(header.kind)} requires feature flags 0x${bits}`)
    }
    return place
  }

  allocate(byteLength: number): Block | null {
    const { frameMemory, metrics } = this.services
    const block = frameMemory.take(byteLength)
    this.#lacksMemory = block === null
    if (block === null && !this.#inLine) {
      metrics.readsPaused++
      this.#inLine = true
      frameMemory.wait(this)
    }
    return block
  }

  /** Memory may be there; false keeps the place in the line. */
  retry(): boolean {
    this.#lacksMemory = false
    this.#attempt(() => this.reader.resume())
    this.#inLine = this.#lacksMemory && this.#state === 'open'
    return !this.#inLine
  }

  onFrame(header: FrameHeader, payload: Uint8Array, block: Block | null): void {
    this.services.metrics.peerFramesReceived++
    if (block !== null && header.kind === raftAppend.kind) {
      this.owner.onAppend(payload, block)
      return
    }
    try {
      this.#hand(header, new Reader(payload))
    } finally {
      if (block !== null) this.services.frameMemory.give(block)
    }
  }

  #hand({ kind, id }: FrameHeader, reader: Reader): void {
    const { owner } = this
    if (kind === raft.kind) owner.onRaft(reader)
    else if (kind === raftInstall.kind) owner.onInstall(reader)
    else if (kind === setBeat.kind) owner.onSetBeat(reader)
    else if (kind === setBeatReply.kind) owner.onSetBeatReply(reader)
    else if (kind === leaders.kind) owner.onLeaders(reader)
    else if (kind === forward.kind) owner.onForward(this, id, reader)
    else if (kind === forwardReply.kind) owner.onForwardReply(id, reader)
    else if (kind === peerBeat.kind) owner.onBeat(peerBeat.decode(reader).wallMs)
    else if (kind === gossip.kind) owner.onGossip(id, reader)
    else if (kind === gossipReply.kind) owner.onGossipReply(id, reader)
    else if (kind === leadersWanted.kind) {
      leadersWanted.decode(reader)
      owner.onLeadersWanted()
    } else throw new ProtocolError('CORRUPT_FRAME', `${messageName(kind)} without payload`)
  }
}
