// One other member of the cluster: the link to it, the session it holds with us, and whether it is alive.
import {
  CODE_OK,
  type ForwardReply,
  forwardReply,
  gossip,
  gossipReply,
  type PeerHello,
  type PeerHelloReply,
  type Reader,
  type RouteChange,
  setBeat,
  setBeatReply,
} from '@millrace/protocol'
import { type Block, NetworkError, type Stream } from '../environment.js'
import { LEADERS_WANTED_MS, MAX_CLOCK_DIFFERENCE_MS, MAX_FORWARD_BYTES, SILENT_PEER_MS } from '../limits.js'
import type { FrameReader } from '../server/frame-reader.js'
import { SOFTWARE } from '../version.js'
import { ForwardDesk } from './forward-desk.js'
import { takeAppend, takeInstall, takeLeaders, takeRaft } from './incoming-frames.js'
import { IncomingSession, type SessionOwner } from './incoming-session.js'
import { checkHelloReply, type ExpectedPeer } from './peer-identity.js'
import { type LinkOwner, type Member, PeerLink } from './peer-link.js'
import type { PeerServices } from './peer-services.js'

export class Peer implements LinkOwner, SessionOwner {
  readonly nodeId: number
  readonly link: PeerLink
  readonly #services: PeerServices
  readonly #desk: ForwardDesk
  #session: IncomingSession | null = null
  /** Sessions that are over and whose streams have not closed yet. */
  readonly #ending = new Set<IncomingSession>()
  #heardAtMs = Number.NEGATIVE_INFINITY
  /** Bytes have come since the last tick. */
  #hasSpoken = false
  /** When it was told all leaders that are known here. */
  #toldAtMs = Number.NEGATIVE_INFINITY
  /** As the peer itself has said. */
  #diskId: string | null = null
  #starts = 0
  #clockDiffers = false
  /** Its silence was spoken of, and nothing was heard since. */
  #isMissed = false

  constructor(member: Member, services: PeerServices) {
    const { environment, self, metrics } = services
    this.nodeId = member.nodeId
    this.#services = services
    this.link = new PeerLink(member, { environment, self, metrics, software: SOFTWARE }, this)
    const send = (id: number, reply: ForwardReply): boolean => this.link.open?.sendForwardReply(id, reply) ?? false
    this.#desk = new ForwardDesk(services, this.nodeId, send)
  }

  /** Monotonic milliseconds of the last bytes from it; minus infinity when there were none. */
  get heardAtMs(): number {
    return this.#heardAtMs
  }

  get expected(): ExpectedPeer {
    const diskId = this.#services.knownDisks(this.nodeId) ?? this.#diskId
    return { nodeId: this.nodeId, diskId, starts: this.#starts }
  }

  /** Watches the time. @param aliveSinceMs since when this broker has run without a pause of its own. */
  tick(nowMs: number, aliveSinceMs: number): void {
    this.link.tick(nowMs)
    for (const session of this.#ending) session.tick(nowMs)
    if (this.#session?.isHeld === true) this.#heardAtMs = nowMs
    // What came on a connection that has broken since says nothing of now.
    if (this.#hasSpoken && this.#session !== null) this.#services.handlers.onHeard(this.nodeId)
    this.#hasSpoken = false
    const connection = this.link.open
    if (connection === null && this.#session === null) return
    // A link that has just come up is given as long as one that has just been heard of.
    const sinceMs = Math.max(this.#heardAtMs, connection?.openedAtMs ?? Number.NEGATIVE_INFINITY, aliveSinceMs)
    if (nowMs - sinceMs <= SILENT_PEER_MS) return
    const silentMs = Math.round(nowMs - sinceMs)
    const { log } = this.#services.environment
    if (!this.#isMissed) log.warn({ node: this.nodeId, silentMs }, 'a peer is silent: its connections are cut')
    this.#isMissed = true
    this.#session?.destroy()
    this.link.drop(new NetworkError('OTHER', `nothing was heard of it for ${silentMs} ms`))
  }

  // -------------------------------------------------------------- the link

  /** @throws ProtocolError */
  checkReply(reply: PeerHelloReply): void {
    checkHelloReply(reply, this.#services.self, this.expected)
    this.#met(reply)
  }

  onOpen(): void {
    this.#desk.linked()
    this.link.open?.announce(this.allLeaderships())
    this.#services.handlers.onConnected(this.nodeId)
  }

  onRefusedAsRemoved(): void {
    this.#services.handlers.onRefusedAsRemoved()
  }

  onLost(): void {
    this.#services.calls.lost(this.nodeId)
    this.#services.handlers.onLost(this.nodeId)
  }

  allLeaderships(): readonly RouteChange[] {
    return this.#services.handlers.allLeaderships()
  }

  reportBug(error: unknown): void {
    this.#services.reportBug(error)
  }

  // -------------------------------------------------------------- its session with us

  /** A connection that the peer has dialled, and that was checked. It replaces the one before. */
  takeOver(stream: Stream, reader: FrameReader, hello: PeerHello): IncomingSession {
    this.#session?.close()
    const isNewStart = hello.starts > this.#starts && this.#starts > 0
    this.#met(hello)
    // Whoever is at the other end of the old link is gone, whatever the network says.
    if (isNewStart) this.link.drop(new NetworkError('RESET', 'the peer has started anew'))
    this.#session = new IncomingSession(this.nodeId, stream, reader, this.#services, this)
    this.heard()
    this.link.wake()
    return this.#session
  }

  #met({ diskId, starts }: PeerHello | PeerHelloReply): void {
    this.#diskId = diskId
    this.#starts = starts
  }

  /** The node is no member any more: nothing of it is taken, and nothing is said to it. */
  async leave(): Promise<void> {
    this.#session?.destroy()
    for (const session of this.#ending) session.destroy()
    await this.link.stop()
  }

  /** Ends the session, if there is one. */
  closeSession(): void {
    this.#session?.close()
  }

  heard(): void {
    this.#heardAtMs = this.#services.environment.clock.monotonicMs()
    this.#hasSpoken = true
    this.#isMissed = false
  }

  onOver(session: IncomingSession): void {
    this.#ending.add(session)
    if (this.#session === session) this.#session = null
    this.#services.calls.lost(this.nodeId)
  }

  onClosed(session: IncomingSession): void {
    this.#ending.delete(session)
  }

  /** Retention goes by the clock of whoever led when a batch was appended: people should know of one that is wrong. */
  onBeat(wallMs: number): void {
    const { clock, log } = this.#services.environment
    const aheadMs = wallMs - clock.wallMs()
    if (Math.abs(aheadMs) <= MAX_CLOCK_DIFFERENCE_MS) this.#clockDiffers = false
    else if (!this.#clockDiffers) {
      this.#clockDiffers = true
      log.warn({ node: this.nodeId, aheadMs }, 'the clock of a peer differs from the one here')
    }
  }

  onRaft(payload: Reader): void {
    takeRaft(this.#services, this.nodeId, payload)
  }

  onAppend(payload: Uint8Array, block: Block): void {
    takeAppend(this.#services, this.nodeId, payload, block)
  }

  onInstall(payload: Reader): void {
    takeInstall(this.#services, this.nodeId, payload)
  }

  onSetBeat(payload: Reader): void {
    this.#services.handlers.onSetBeat(this.nodeId, setBeat.decode(payload))
  }

  onSetBeatReply(payload: Reader): void {
    this.#services.handlers.onSetBeatReply(this.nodeId, setBeatReply.decode(payload))
  }

  onLeaders(payload: Reader): void {
    takeLeaders(this.#services, this.nodeId, payload)
  }

  onForward(session: IncomingSession, id: number, payload: Reader): void {
    this.#desk.take(session, id, payload)
  }

  onForwardReply(id: number, payload: Reader): void {
    this.#services.calls.answered(this.nodeId, id, forwardReply.decode(payload))
  }

  onGossip(id: number, payload: Reader): void {
    const state = new Uint8Array(gossip.decode(payload).payload)
    const answer = this.#services.handlers.onGossip(this.nodeId, state)
    if (answer !== null && answer.length <= MAX_FORWARD_BYTES) this.link.open?.sendGossip(id, answer, 'answer')
  }

  onGossipReply(id: number, reader: Reader): void {
    const { payload } = gossipReply.decode(reader)
    this.#services.calls.answered(this.nodeId, id, { code: CODE_OK, detail: '', payload })
  }

  /** Whoever asks again so soon is about to get them, or asks too often. */
  onLeadersWanted(): void {
    const { environment, handlers } = this.#services
    const now = environment.clock.monotonicMs()
    if (now - this.#toldAtMs < LEADERS_WANTED_MS) return
    this.#toldAtMs = now
    this.link.open?.announce(handlers.knownLeaderships())
  }
}
