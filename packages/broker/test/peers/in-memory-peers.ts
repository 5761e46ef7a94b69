// A server and its peers without sockets or real time: the test is every other broker.
import {
  encodeFrame,
  PEER_PROTOCOL_VERSION,
  type PeerHello,
  type PeerHelloReply,
  peerHello,
  type RouteChange,
} from '@millrace/protocol'
import { type Environment, type LogFields, NetworkError } from '#src/environment.js'
import type { IncomingAppend } from '#src/peers/logged-entry.js'
import { PeerNetwork } from '#src/peers/peer-network.js'
import { FrameMemory } from '#src/server/frame-memory.js'
import { type InMemoryServer, startInMemory, TestStream } from '../server/in-memory-server.js'

/** What the in-memory server calls its cluster. */
export const CLUSTER_ID = 'c'.repeat(32)
export const OWN_DISK = '1'.repeat(32)
export const PEER_DISK = '2'.repeat(32)

export interface InMemoryPeers {
  readonly server: InMemoryServer
  readonly network: PeerNetwork
  readonly frameMemory: FrameMemory
  /** Appends that were handed on and not released by the test. */
  readonly appends: IncomingAppend[]
  /** Names of what was handed on, in order. */
  readonly handed: string[]
  /** Streams the network has dialled. */
  readonly dialled: TestStream[]
  /** Whether dialling reaches somebody. */
  answers: boolean
  /** Another broker's connection, up to and with its PEER_HELLO. */
  open(hello?: Partial<PeerHello>): TestStream
}

export const HELLO: PeerHello = {
  minVersion: PEER_PROTOCOL_VERSION,
  maxVersion: PEER_PROTOCOL_VERSION,
  features: 0,
  clusterId: CLUSTER_ID,
  nodeId: 2,
  diskId: PEER_DISK,
  starts: 3,
  expectedNodeId: 1,
  software: 'test',
}
export const HELLO_REPLY: PeerHelloReply = {
  version: PEER_PROTOCOL_VERSION,
  features: 0,
  clusterId: CLUSTER_ID,
  nodeId: 2,
  diskId: PEER_DISK,
  starts: 3,
  software: 'test',
}

export interface InMemoryPeersOptions {
  readonly frameBytes?: number
  readonly memoryBytes?: number
  readonly knownDisk?: string
  /** Fields of what is logged as a warning. */
  readonly onWarning?: (fields: LogFields) => void
  readonly versions?: { readonly min: number; readonly max: number }
}

/** Node 1 of a cluster whose node 2 is the test. */
export async function startPeers(options: InMemoryPeersOptions = {}): Promise<InMemoryPeers> {
  const dialled: TestStream[] = []
  const appends: IncomingAppend[] = []
  const handed: string[] = []
  const leaderships: RouteChange[] = []
  const made: { network: PeerNetwork; frameMemory: FrameMemory }[] = []
  const state = { answers: false }
  const server = await startInMemory({
    memoryBytes: options.memoryBytes ?? 64 * 1024 * 1024,
    peers(given, metrics, bugs) {
      const environment: Environment = {
        ...given,
        log: { ...given.log, warn: (fields) => options.onWarning?.(fields) },
        network: {
          ...given.network,
          async dial(_where, open) {
            if (!state.answers) throw new NetworkError('REFUSED', 'nobody listens')
            const stream = new TestStream()
            stream.handler = open(stream)
            dialled.push(stream)
          },
        },
      }
      const frameMemory = new FrameMemory(environment.memory, environment.clock, options.frameBytes ?? 16 * 1024 * 1024)
      const network = new PeerNetwork({
        environment,
        clusterId: CLUSTER_ID,
        self: { nodeId: 1, diskId: OWN_DISK, starts: 1 },
        members: [1, 2].map((nodeId) => ({ nodeId, host: `node-${nodeId}`, port: 7420 })),
        frameMemory,
        metrics,
        knownDisks: () => options.knownDisk ?? null,
        decodeConfiguration: () => null,
        reportBug: (error: unknown) => void bugs.push(error),
        ...(options.versions === undefined ? {} : { versions: options.versions }),
        handlers: {
          onRaft: (_from, _group, { kind }) => void handed.push(kind),
          onAppend: (_from, _group, append) => {
            handed.push('append with entries')
            appends.push(append)
          },
          onInstall: () => void handed.push('install'),
          onSetBeat: () => void handed.push('set beat'),
          onSetBeatReply: () => void handed.push('answer to a set beat'),
          onLeaders: () => void handed.push('leaders'),
          onGossip: (_from, state) => {
            handed.push('gossip')
            return state.length === 0 ? null : state
          },
          onHeard: () => {},
          onConnected: () => {},
          onRefusedAsRemoved: () => {},
          onForward: async (_from, payload) => {
            handed.push('forward')
            return payload
          },
          onLost: () => void handed.push('lost'),
          allLeaderships: () => leaderships,
          knownLeaderships: () => leaderships,
        },
      })
      made.push({ network, frameMemory })
      return network
    },
  })
  const { network, frameMemory } = made[0]!
  return {
    server,
    network,
    frameMemory,
    appends,
    handed,
    dialled,
    get answers() {
      return state.answers
    },
    set answers(answers: boolean) {
      state.answers = answers
    },
    open(hello = {}) {
      const stream = server.dial()
      stream.receive(encodeFrame(peerHello, { ...HELLO, ...hello }, { id: 0 }))
      return stream
    },
  }
}
