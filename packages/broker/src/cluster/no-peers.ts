// The other brokers of a broker that is a cluster by itself: there are none.
import { ProtocolError, type RouteChange } from '@millrace/protocol'
import type { Member } from '../members.js'
import type { GroupPeers, SetPeers } from '../replication/group-ports.js'
import type { Forwarder } from './metadata-leader.js'

/** What gossip asks of the streams between brokers. */
export interface GossipPeers {
  /** Rejects when nothing came back; always settles. */
  exchangeGossip(to: number, state: Uint8Array): Promise<Uint8Array>
  /** Has a node tell all leaders that it knows. */
  askLeaders(of: number): void
  /** The node shows signs of life: it is dialled now unless there is a connection. */
  wake(nodeId: number): void
}

/** What a node needs of the way to the others. */
export interface NodePeers extends GroupPeers, SetPeers, Forwarder, GossipPeers {
  start(): void
  /** From now on these are the members; those that were removed are told so. */
  setMembers(members: readonly Member[], removed: readonly number[]): void
  stop(): Promise<void>
  /** Tells everybody who leads what, soon. */
  announce(changes: readonly RouteChange[]): void
  /** Monotonic milliseconds of the last frame from a node. */
  heardMs(nodeId: number): number
}

export const NO_PEERS: NodePeers = {
  start() {},
  setMembers() {},
  async stop() {},
  announce() {},
  heardMs: () => Number.NEGATIVE_INFINITY,
  isConnected: () => false,
  async forward(to) {
    throw new ProtocolError('NOT_LEADER', `node ${to} is no member of this cluster`)
  },
  async exchangeGossip(to) {
    throw new ProtocolError('WRONG_NODE', `node ${to} is no member of this cluster`)
  },
  askLeaders() {},
  wake() {},
  send() {},
  sendAppend(_to, _key, _header, read) {
    read.release()
    return false
  },
  sendInstall: () => false,
  sendSetBeat: () => false,
  sendSetBeatReply: () => false,
}
