// A node of a test cluster that is nothing but its peers: a listener with a doorman, and handlers that remember.
import type { RouteChange } from '@millrace/protocol'
import type { Environment, Listener, LogFields } from '#src/environment.js'
import { Metrics } from '#src/metrics.js'
import type { IncomingAppend, LoggedEntry } from '#src/peers/logged-entry.js'
import type { VersionRange } from '#src/peers/peer-identity.js'
import type { Member } from '#src/peers/peer-link.js'
import { PeerNetwork } from '#src/peers/peer-network.js'
import type { Configuration, InstallRequest, RaftMessage } from '#src/raft/raft-types.js'
import { FrameMemory } from '#src/server/frame-memory.js'
import type { LogKey } from '#src/storage/log-store.js'
import { Doorman } from './doorman.js'
import type { LoggedLine, Place } from './peer-world.js'

export const CLUSTER_ID = 'c1'.repeat(16)
export const diskOf = (nodeId: number): string => `d${nodeId}`.repeat(16)

export interface NodeOptions {
  readonly clusterId?: string
  readonly nodeId?: number
  readonly diskId?: string
  readonly starts?: number
  readonly versions?: VersionRange
  readonly frameBytes?: number
  readonly knownDisks?: (nodeId: number) => string | null
  readonly port?: number
  /** Keeps appends until the test releases them. */
  readonly keepsAppends?: boolean
}

export class PeerNode {
  readonly environment: Environment
  readonly lines: LoggedLine[]
  readonly metrics = new Metrics()
  readonly frameMemory: FrameMemory
  readonly raft: { from: number; group: LogKey; message: RaftMessage<LoggedEntry> }[] = []
  readonly appends: { from: number; group: LogKey; append: IncomingAppend; bytes: Uint8Array }[] = []
  readonly installs: { from: number; group: LogKey; message: InstallRequest; state: Uint8Array }[] = []
  readonly leaders: { from: number; changes: readonly RouteChange[]; atMs: number }[] = []
  readonly lost: number[] = []
  refusedAsRemoved = 0
  readonly bugs: unknown[] = []
  readonly doormen: Doorman[] = []
  /** What came, by name, in the order it came. */
  readonly order: string[] = []
  leads: RouteChange[] = []
  known: RouteChange[] = []
  readonly heard: number[] = []
  readonly connections: number[] = []
  onGossip: (from: number, state: Uint8Array) => Uint8Array | null = () => null
  onForward: (from: number, payload: Uint8Array) => Promise<Uint8Array> = async (_from, payload) => payload
  configurationOf: Configuration | null = null
  peers: PeerNetwork | null = null
  listener: Listener | null = null

  constructor(
    readonly nodeId: number,
    readonly place: Place,
    readonly options: NodeOptions = {},
  ) {
    this.environment = place.environment
    this.lines = place.lines
    const { memory, clock } = place.environment
    this.frameMemory = new FrameMemory(memory, clock, options.frameBytes ?? 16 * 1024 * 1024)
  }

  get network(): PeerNetwork {
    if (this.peers === null) throw new Error('the node has not started')
    return this.peers
  }

  /** Listens, so that its port is known; connections are refused until `start`. */
  async listen(): Promise<Member> {
    const { host } = this.place
    this.listener = await this.environment.network.listen({ host, port: this.options.port ?? 0 }, (stream) => {
      const doorman = new Doorman(stream, this.network)
      this.doormen.push(doorman)
      return doorman
    })
    return { nodeId: this.nodeId, host, port: this.listener.port }
  }

  start(members: readonly Member[]): void {
    const { options, environment, metrics, frameMemory } = this
    const nodeId = options.nodeId ?? this.nodeId
    this.peers = new PeerNetwork({
      environment,
      clusterId: options.clusterId ?? CLUSTER_ID,
      self: { nodeId, diskId: options.diskId ?? diskOf(nodeId), starts: options.starts ?? 1 },
      members,
      frameMemory,
      metrics,
      knownDisks: options.knownDisks ?? (() => null),
      decodeConfiguration: () => this.configurationOf,
      reportBug: (error: unknown, _where: LogFields) => void this.bugs.push(error),
      ...(options.versions === undefined ? {} : { versions: options.versions }),
      handlers: {
        onRaft: (from, group, message) => {
          this.raft.push({ from, group, message })
          this.order.push(message.kind)
        },
        onAppend: (from, group, append) => {
          const bytes = concatenated(append.message.entries)
          this.appends.push({ from, group, append, bytes })
          this.order.push(`append of ${append.message.entries.length}`)
          if (options.keepsAppends !== true) append.release()
        },
        onInstall: (from, group, message, state) => {
          this.installs.push({ from, group, message, state })
          this.order.push('install')
        },
        onSetBeat: (_from, { epoch }) => void this.order.push(`set beat ${epoch}`),
        onSetBeatReply: (_from, { epoch }) => void this.order.push(`answer to set beat ${epoch}`),
        onLeaders: (from, changes) => void this.leaders.push({ from, changes, atMs: environment.clock.monotonicMs() }),
        onGossip: (from, state) => this.onGossip(from, state),
        onHeard: (nodeId) => void this.heard.push(nodeId),
        onRefusedAsRemoved: () => void this.refusedAsRemoved++,
        onConnected: (nodeId) => void this.connections.push(nodeId),
        onForward: (from, payload) => this.onForward(from, payload),
        onLost: (lost) => void this.lost.push(lost),
        allLeaderships: () => this.leads,
        knownLeaderships: () => this.known,
      },
    })
    this.peers.start()
  }

  async stop(): Promise<void> {
    await this.listener?.close()
    await this.peers?.stop()
    for (const { stream } of this.doormen) stream.destroy()
  }

  warnings(message: string): readonly LoggedLine[] {
    return this.lines.filter((line) => line.message === message)
  }
}

function concatenated(entries: readonly LoggedEntry[]): Uint8Array {
  const pieces = entries.map(({ block, at, byteLength }) => block.bytes.slice(at, at + byteLength))
  return new Uint8Array(Buffer.concat(pieces))
}
