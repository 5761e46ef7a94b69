// Everything this broker and the other members of its cluster say to each other. Messages may be lost with the
// connection they were on, and those who send them live with that; the connections themselves are watched.
import {
  assert,
  encodeFrame,
  PEER_PROTOCOL_VERSION,
  ProtocolError,
  peerHello,
  peerHelloReply,
  Reader,
  type RouteChange,
  type SetBeat,
  type SetBeatReply,
} from '@millrace/protocol'
import type { Environment, LogFields, Stream, Timer } from '../environment.js'
import { GOSSIP_ANSWER_MS, LEADERS_BATCH_MS, MAX_FORWARD_BYTES, PEER_BEAT_MS } from '../limits.js'
import type { Metrics } from '../metrics.js'
import type { AppendRequest, InstallRequest, RaftMessage } from '../raft/raft-types.js'
import type { FrameMemory } from '../server/frame-memory.js'
import type { FrameReader } from '../server/frame-reader.js'
import type { AcceptedPeer, PeerAcceptor } from '../server/peer-acceptor.js'
import type { LogKey, LogRead } from '../storage/log-store.js'
import { SOFTWARE } from '../version.js'
import { ForwardCalls } from './forward-calls.js'
import type { DecodeConfiguration, LoggedEntry } from './logged-entry.js'
import { Peer } from './peer.js'
import { checkHello, chooseVersion, type PeerIdentity, type VersionRange } from './peer-identity.js'
import type { Member } from './peer-link.js'
import type { PeerHandlers, PeerServices } from './peer-services.js'

export interface PeerNetworkOptions {
  readonly environment: Environment
  readonly clusterId: string
  readonly self: { readonly nodeId: number; readonly diskId: string; readonly starts: number }
  /** All members at first; this broker may be among them. */
  readonly members: readonly Member[]
  /** For frames of peers on their way in, and for nothing else. */
  readonly frameMemory: FrameMemory
  readonly metrics: Metrics
  readonly handlers: PeerHandlers
  /** The disk a node is known to have; null when that is not known: then what it says first is believed. */
  readonly knownDisks: (nodeId: number) => string | null
  readonly decodeConfiguration: DecodeConfiguration
  /** Something was thrown that nobody foresaw. */
  reportBug(error: unknown, where: LogFields): void
  /** Versions of the protocol between brokers that this one speaks; for tests of versions to come. */
  readonly versions?: VersionRange
}

export interface PeerStatus {
  readonly nodeId: number
  readonly connected: boolean
  /** Milliseconds since something was heard of it; null when nothing ever was. */
  readonly heardAgoMs: number | null
  readonly unsentBytes: number
}

/** Refusals of the same kind are logged once in so long. */
const REPEAT_LOG_MS = 60_000
/** A tick that comes so late shows that this process was stopped, and heard nothing because of that. */
const PAUSED_MS = 5 * PEER_BEAT_MS
const OWN_VERSIONS: VersionRange = { min: PEER_PROTOCOL_VERSION, max: PEER_PROTOCOL_VERSION }

export class PeerNetwork implements PeerAcceptor {
  readonly #services: PeerServices
  readonly #self: PeerIdentity
  readonly #peers = new Map<number, Peer>()
  /** Nodes that were members once and never will be again. */
  #removed: ReadonlySet<number> = new Set()
  /** Links of nodes that are no members any more, until they have closed. */
  readonly #leaving = new Set<Promise<void>>()
  readonly #calls: ForwardCalls
  /** Leaders to be told, the latest of each partition. */
  readonly #announced = new Map<number, RouteChange>()
  /** Leaders were told a moment ago: those that come now wait, and go together. */
  #announcing: Timer | null = null
  #started = false
  /** Runs while there is somebody to be heard of. */
  #ticking: Timer | null = null
  #tickedAtMs = 0
  #aliveSinceMs = Number.NEGATIVE_INFINITY
  #stopped = false
  #logged = { reason: '', atMs: Number.NEGATIVE_INFINITY }

  constructor(options: PeerNetworkOptions) {
    const { environment, clusterId, self, members, frameMemory, metrics, handlers, knownDisks } = options
    this.#self = { clusterId, ...self, versions: options.versions ?? OWN_VERSIONS }
    this.#calls = new ForwardCalls(environment.clock, environment.random.uint32())
    this.#services = {
      environment,
      self: this.#self,
      frameMemory,
      metrics,
      handlers,
      knownDisks,
      decodeConfiguration: options.decodeConfiguration,
      calls: this.#calls,
      reportBug: (error) => options.reportBug(error, { during: 'peers' }),
    }
    this.setMembers(members)
  }

  /**
   * From now on these are the members, wherever they were reached before; connections with others are cut.
   * @param removed nodes that are told, when they come, that they were removed.
   */
  setMembers(members: readonly Member[], removed: readonly number[] = []): void {
    if (this.#stopped) return
    this.#removed = new Set(removed)
    const others = members.filter(({ nodeId }) => nodeId !== this.#self.nodeId)
    const kept = new Set(others.map(({ nodeId }) => nodeId))
    for (const [nodeId, peer] of this.#peers) if (!kept.has(nodeId)) this.#drop(nodeId, peer)
    for (const member of others) {
      const known = this.#peers.get(member.nodeId)
      known?.link.moveTo(member)
      if (known !== undefined) continue
      const peer = new Peer(member, this.#services)
      this.#peers.set(member.nodeId, peer)
      if (this.#started) peer.link.wake()
    }
    this.#beginTicking()
  }

  #drop(nodeId: number, peer: Peer): void {
    this.#peers.delete(nodeId)
    this.#calls.lost(nodeId)
    const left = peer.leave().finally(() => this.#leaving.delete(left))
    this.#leaving.add(left)
  }

  /** Begins to dial the others. */
  start(): void {
    this.#started = true
    this.#beginTicking()
    for (const { link } of this.#peers.values()) link.wake()
  }

  /** Sends what is queued and closes every connection. Always resolves. */
  async stop(): Promise<void> {
    this.#stopped = true
    this.#ticking?.cancel()
    this.#announcing?.cancel()
    for (const peer of this.#peers.values()) {
      peer.closeSession()
      this.#calls.lost(peer.nodeId)
    }
    await Promise.all([...[...this.#peers.values()].map(({ link }) => link.stop()), ...this.#leaving])
  }

  // -------------------------------------------------------------- what this broker says

  /**
   * Sends a small message when the turn ends, together with all others for the same node; drops it when there is no
   * connection. Messages for one node stay in order, appends included. @param message neither entries nor state.
   */
  send(to: number, group: LogKey, message: RaftMessage<LoggedEntry>): void {
    assert(message.kind !== 'install', 'a state is sent with sendInstall')
    assert(message.kind !== 'append' || message.entries.length === 0, 'entries are sent with sendAppend')
    const { metrics } = this.#services
    if (this.#peers.get(to)?.link.open?.sendRaft({ group, message }) !== true) metrics.peerMessagesDropped++
  }

  /**
   * Sends entries from where they are read, without copying them. Takes the read over in any case, and releases it
   * once: when the bytes are sent, or will not be. @param read null or empty: there are no entries.
   * @returns false when nothing was sent: no connection, or too much waits to be sent.
   */
  sendAppend(
    to: number,
    group: LogKey,
    header: Omit<AppendRequest<LoggedEntry>, 'entries'>,
    read: LogRead | null,
  ): boolean {
    const connection = this.#peers.get(to)?.link.open ?? null
    let isSent = false
    if (read === null || read.batchCount === 0) {
      read?.release()
      isSent = connection?.sendRaft({ group, message: header }) ?? false
    } else if (connection === null) read.release()
    else isSent = connection.sendAppend(group, header, read)
    if (!isSent) this.#services.metrics.peerMessagesDropped++
    return isSent
  }

  /** Sends the state of a group, copied. @returns false when it was not sent; also one that fits no frame. */
  sendInstall(to: number, group: LogKey, message: InstallRequest, state: Uint8Array): boolean {
    const { term, round, start } = message
    const isSent = this.#peers.get(to)?.link.open?.sendInstall({ group, term, round, start, state }) ?? false
    if (!isSent) this.#services.metrics.peerMessagesDropped++
    return isSent
  }

  /** @returns false when it was not sent; what is sent stays in order with the messages of the groups. */
  sendSetBeat(to: number, beat: SetBeat): boolean {
    return this.#peers.get(to)?.link.open?.sendSetBeat(beat) ?? false
  }

  /** @returns false when it was not sent. */
  sendSetBeatReply(to: number, reply: SetBeatReply): boolean {
    return this.#peers.get(to)?.link.open?.sendSetBeatReply(reply) ?? false
  }

  /**
   * Tells every peer of new leaders: the first at once, those that follow within some milliseconds together. Who connects
   * later is told all.
   */
  announce(changes: readonly RouteChange[]): void {
    for (const change of changes) this.#announced.set(partitionNumber(change), change)
    if (this.#stopped || this.#announcing !== null || this.#announced.size === 0) return
    const batch = [...this.#announced.values()]
    this.#announced.clear()
    for (const { link } of this.#peers.values()) link.open?.announce(batch)
    this.#announcing = this.#services.environment.clock.timer(LEADERS_BATCH_MS, () => {
      this.#announcing = null
      this.announce([])
    })
  }

  /**
   * Hands an operation on and resolves with the answer.
   * @throws ForwardError `notSent` when it never left, `lost` and `timedOut` when nobody knows what came of it;
   * ProtocolError when the peer refuses it, or FRAME_TOO_LARGE.
   */
  forward(to: number, payload: Uint8Array, timeoutMs: number): Promise<Uint8Array> {
    if (payload.length > MAX_FORWARD_BYTES) {
      const detail = `an operation of ${payload.length} bytes, the limit is ${MAX_FORWARD_BYTES}`
      return Promise.reject(new ProtocolError('FRAME_TOO_LARGE', detail))
    }
    return this.#calls.begin(to, timeoutMs, (id) => {
      return this.#peers.get(to)?.link.open?.sendForward(id, { payload }, timeoutMs) ?? false
    })
  }

  /**
   * Hands a sealed state of gossip over and resolves with the one that comes back. Always settles.
   * @throws ForwardError when none came; ProtocolError FRAME_TOO_LARGE.
   */
  exchangeGossip(to: number, state: Uint8Array): Promise<Uint8Array> {
    if (state.length > MAX_FORWARD_BYTES) {
      return Promise.reject(new ProtocolError('FRAME_TOO_LARGE', `a state of ${state.length} bytes`))
    }
    return this.#calls.begin(to, GOSSIP_ANSWER_MS, (id) => {
      return this.#peers.get(to)?.link.open?.sendGossip(id, state, 'question') ?? false
    })
  }

  /** Has a node tell all leaders that it knows. They come as those that are news do; nobody waits for them. */
  askLeaders(of: number): void {
    this.#peers.get(of)?.link.open?.sendLeadersWanted()
  }

  /** The node shows signs of life: it is dialled now unless there is a connection. */
  wake(nodeId: number): void {
    if (this.#ticking !== null) this.#peers.get(nodeId)?.link.wake()
  }

  // -------------------------------------------------------------- who is there

  /** Whether messages for a node leave. */
  isConnected(nodeId: number): boolean {
    return (this.#peers.get(nodeId)?.link.open ?? null) !== null
  }

  /** Monotonic milliseconds at which something was last heard of a node; minus infinity when nothing ever was. */
  heardMs(nodeId: number): number {
    return this.#peers.get(nodeId)?.heardAtMs ?? Number.NEGATIVE_INFINITY
  }

  status(): readonly PeerStatus[] {
    const now = this.#services.environment.clock.monotonicMs()
    return [...this.#peers.values()].map(({ nodeId, link, heardAtMs }) => ({
      nodeId,
      connected: link.open !== null,
      heardAgoMs: Number.isFinite(heardAtMs) ? Math.round(now - heardAtMs) : null,
      unsentBytes: link.open?.unsentBytes ?? 0,
    }))
  }

  // -------------------------------------------------------------- who comes in

  /** @throws ProtocolError */
  accept(stream: Stream, reader: FrameReader, payload: Uint8Array): AcceptedPeer {
    if (this.#stopped) throw new ProtocolError('SHUTTING_DOWN', '')
    const self = this.#self
    const hello = peerHello.decode(new Reader(payload))
    try {
      const version = chooseVersion(self.versions, hello)
      if (this.#removed.has(hello.nodeId) && hello.clusterId === self.clusterId) {
        throw new ProtocolError('NODE_REMOVED', `node ${hello.nodeId} was removed from the cluster`)
      }
      const peer = this.#peers.get(hello.nodeId)
      checkHello(hello, self, peer?.expected)
      assert(peer !== undefined, 'a peer that was checked is a member')
      const session = peer.takeOver(stream, reader, hello)
      const { clusterId, nodeId, diskId, starts } = self
      const reply = { version, features: 0, clusterId, nodeId, diskId, starts, software: SOFTWARE }
      stream.write(encodeFrame(peerHelloReply, reply, { id: 0 }))
      return session
    } catch (error) {
      if (error instanceof ProtocolError) this.#logRefusal(stream, hello.nodeId, error)
      throw error
    }
  }

  #logRefusal(stream: Stream, node: number, { code, detail }: ProtocolError): void {
    const { clock, log } = this.#services.environment
    const now = clock.monotonicMs()
    if (detail === this.#logged.reason && now - this.#logged.atMs < REPEAT_LOG_MS) return
    this.#logged = { reason: detail, atMs: now }
    log.warn({ node, peer: stream.peer, code, detail }, 'a broker that wants to be a peer is refused')
  }

  // -------------------------------------------------------------- time

  #beginTicking(): void {
    if (!this.#started || this.#ticking !== null || this.#peers.size === 0) return
    this.#tickedAtMs = this.#services.environment.clock.monotonicMs()
    this.#scheduleTick()
  }

  #scheduleTick(): void {
    this.#ticking = this.#services.environment.clock.timer(PEER_BEAT_MS, () => {
      this.#ticking = null
      if (this.#peers.size === 0) return
      this.#scheduleTick()
      const now = this.#services.environment.clock.monotonicMs()
      if (now - this.#tickedAtMs > PAUSED_MS) this.#aliveSinceMs = now
      this.#tickedAtMs = now
      for (const peer of this.#peers.values()) this.#tick(peer, now)
    })
  }

  /** A bug met for one peer must not keep the others waiting. */
  #tick(peer: Peer, nowMs: number): void {
    try {
      peer.tick(nowMs, this.#aliveSinceMs)
    } catch (error) {
      this.#services.reportBug(error)
    }
  }
}

/** Names a partition of a topic by one number. */
function partitionNumber({ topicId, partition }: RouteChange): number {
  return topicId * 0x1_0000 + partition
}
