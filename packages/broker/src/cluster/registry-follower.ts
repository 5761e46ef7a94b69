// Tells everybody in this broker who belongs to the cluster and where they are: the map of the clients, the way to the other
// brokers, and whoever remembers it. What the metadata's registry of nodes says is followed from the moment it is known.
import type { NodeInfo } from '@millrace/protocol'
import type { Environment, Timer } from '../environment.js'
import { LEAVE_GRACE_MS } from '../limits.js'
import type { Member } from '../members.js'
import type { ClusterMembers } from './cluster-members.js'
import type { MapPublisher } from './map-publisher.js'
import type { MetadataState } from './metadata-state.js'
import type { NodePeers } from './no-peers.js'

interface RegistryFollowerOptions {
  readonly environment: Pick<Environment, 'clock' | 'log'>
  readonly nodeId: number
  readonly members: ClusterMembers
  readonly map: Pick<MapPublisher, 'putNodes'>
  readonly peers: Pick<NodePeers, 'setMembers'>
  /** Who belongs to the cluster, or where they are, has changed. */
  readonly onMembers: () => void
  /** This broker was removed for good, and whoever was to hear of it from here has. */
  readonly onRemoved: () => void
}

export class RegistryFollower {
  readonly #options: RegistryFollowerOptions
  /** Nodes that peers are connected with, and those among them that were removed a moment ago. */
  #peered: readonly NodeInfo[] = []
  readonly #leaving = new Map<number, { readonly node: NodeInfo; readonly timer: Timer }>()
  #seenVersion = -1
  #wasRemoved = false
  #going: Timer | null = null
  #stopped = false

  constructor(options: RegistryFollowerOptions) {
    this.#options = options
  }

  /** What the metadata says may have changed. */
  follow(state: Pick<MetadataState, 'registryVersion' | 'nodes'>): void {
    if (state.registryVersion === this.#seenVersion) return
    this.#seenVersion = state.registryVersion
    if (this.#options.members.update(state.nodes())) this.tell()
  }

  /** This broker listens there. */
  reachedAt(member: Member): void {
    if (this.#options.members.putSelf(member)) this.tell()
  }

  /** Says who is known to belong to the cluster now. */
  tell(): void {
    const { environment, members, map, nodeId, onMembers, onRemoved } = this.#options
    map.putNodes(members.list())
    for (const removed of members.removed) this.#letLeave(removed)
    this.#tellPeers()
    if (members.removed.includes(nodeId) && !this.#wasRemoved) {
      this.#wasRemoved = true
      environment.log.error({}, 'this broker was removed from the cluster for good')
      if (!this.#stopped) this.#going = environment.clock.timer(LEAVE_GRACE_MS, onRemoved)
    }
    onMembers()
  }

  /** Another broker refuses this one, since it was removed while it was away. */
  refusedAsRemoved(): void {
    const { members, nodeId } = this.#options
    if (members.noteRemoved(nodeId)) this.tell()
  }

  stop(): void {
    this.#stopped = true
    this.#going?.cancel()
    for (const { timer } of this.#leaving.values()) timer.cancel()
    this.#leaving.clear()
  }

  /** Whoever is removed hears of it, and of the answer to who asked for that there, before its connections are cut. */
  #letLeave(nodeId: number): void {
    const node = this.#peered.find((peer) => peer.nodeId === nodeId)
    if (node === undefined || this.#leaving.has(nodeId) || this.#stopped) return
    const timer = this.#options.environment.clock.timer(LEAVE_GRACE_MS, () => {
      this.#leaving.delete(nodeId)
      this.#peered = this.#peered.filter((peer) => peer.nodeId !== nodeId)
      this.#tellPeers()
    })
    this.#leaving.set(nodeId, { node, timer })
  }

  #tellPeers(): void {
    if (this.#stopped) return
    const { members, peers } = this.#options
    const leaving = [...this.#leaving.values()].map(({ node }) => node)
    this.#peered = [...members.list(), ...leaving]
    peers.setMembers(
      this.#peered,
      members.removed.filter((nodeId) => !this.#leaving.has(nodeId)),
    )
  }
}
