// What all peers work with, and what becomes of what they say.
import type { RouteChange, SetBeat, SetBeatReply } from '@millrace/protocol'
import type { Environment } from '../environment.js'
import type { Metrics } from '../metrics.js'
import type { InstallRequest, RaftMessage } from '../raft/raft-types.js'
import type { FrameMemory } from '../server/frame-memory.js'
import type { LogKey } from '../storage/log-store.js'
import type { ForwardCalls } from './forward-calls.js'
import type { DecodeConfiguration, IncomingAppend, LoggedEntry } from './logged-entry.js'
import type { PeerIdentity } from './peer-identity.js'

export interface PeerHandlers {
  onRaft(from: number, group: LogKey, message: RaftMessage<LoggedEntry>): void
  /** The append is the handler's from now on: it releases it, once. */
  onAppend(from: number, group: LogKey, append: IncomingAppend): void
  /** `state` is the handler's. */
  onInstall(from: number, group: LogKey, message: InstallRequest, state: Uint8Array): void
  onSetBeat(from: number, beat: SetBeat): void
  onSetBeatReply(from: number, reply: SetBeatReply): void
  onLeaders(from: number, changes: readonly RouteChange[]): void
  /** A sealed state of gossip, the handler's. @returns what is known here, sealed; null: it is not answered. */
  onGossip(from: number, state: Uint8Array): Uint8Array | null
  /** Something has come from the node since this was called last; now and then. */
  onHeard(nodeId: number): void
  /** Carries out an operation; a ProtocolError or StorageError it throws is the answer, anything else is a bug. */
  onForward(from: number, payload: Uint8Array): Promise<Uint8Array>
  /** What is sent reaches the node from now on. */
  onConnected(nodeId: number): void
  /** Nothing reaches the node any more, and what was sent lately may be lost. */
  onLost(nodeId: number): void
  /** The peer says that this node was removed from the cluster. */
  onRefusedAsRemoved(): void
  /** Everything this broker leads. */
  allLeaderships(): readonly RouteChange[]
  /** Every leader that this broker knows. */
  knownLeaderships(): readonly RouteChange[]
}

export interface PeerServices {
  readonly environment: Environment
  readonly self: PeerIdentity
  /** For frames on their way in: a budget of its own, so that clients cannot starve Raft. */
  readonly frameMemory: FrameMemory
  readonly metrics: Metrics
  readonly handlers: PeerHandlers
  /** The disk a node is known to have; null when that is not known. */
  readonly knownDisks: (nodeId: number) => string | null
  readonly decodeConfiguration: DecodeConfiguration
  readonly calls: ForwardCalls
  /** Something was thrown that is nobody's fault but our own. */
  reportBug(error: unknown): void
}
