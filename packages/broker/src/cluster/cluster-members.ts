// Who the cluster is made of, as far as this broker knows: what it was told when it began, and what the metadata says since.
import type { NodeInfo } from '@millrace/protocol'
import type { Member } from '../members.js'
import type { NodeRecord } from './node-registry.js'

export interface ClusterMembersOptions {
  readonly nodeId: number
  /** Given by configuration: where the operator says that a node is, it is. */
  readonly configured: readonly Member[]
  /** What was known when this broker ran last, or when it joined. */
  readonly remembered: readonly Member[]
  readonly removed: readonly number[]
  /** Cores of this broker, and of those that have not said how many they have. */
  readonly shards: number
}

export class ClusterMembers {
  readonly #options: ClusterMembersOptions
  #nodes: ReadonlyMap<number, NodeInfo>
  #removed: readonly number[]

  constructor(options: ClusterMembersOptions) {
    this.#options = options
    const { configured, remembered, removed, shards } = options
    const known = [...remembered, ...configured].filter(({ nodeId }) => !removed.includes(nodeId))
    this.#nodes = new Map(known.map((member) => [member.nodeId, { ...member, shardCount: shards }]))
    this.#removed = removed
  }

  /** By id; this broker is among them once it is known where it is reached. */
  list(): readonly NodeInfo[] {
    return [...this.#nodes.values()].sort((a, b) => a.nodeId - b.nodeId)
  }

  /** Nodes that were members and never will be again. */
  get removed(): readonly number[] {
    return this.#removed
  }

  get others(): readonly NodeInfo[] {
    return this.list().filter(({ nodeId }) => nodeId !== this.#options.nodeId)
  }

  /** This broker among them, wherever it is reached. */
  get ids(): readonly number[] {
    return [...new Set([this.#options.nodeId, ...this.#nodes.keys()])]
  }

  /** This broker listens now. @returns whether that is news. */
  putSelf(member: Member): boolean {
    return this.#replace([...this.#nodes.values(), { ...member, shardCount: this.#options.shards }], this.#removed)
  }

  /** A node is known to be removed before the metadata says so here. @returns whether that is news. */
  noteRemoved(nodeId: number): boolean {
    if (this.#removed.includes(nodeId)) return false
    const nodes = [...this.#nodes.values()].filter((node) => node.nodeId !== nodeId)
    return this.#replace(
      nodes,
      [...this.#removed, nodeId].sort((a, b) => a - b),
    )
  }

  /** The registry of the metadata has changed. @returns whether that changes who is a member, or where. */
  update(registry: readonly NodeRecord[]): boolean {
    const removed = registry.filter(({ state }) => state === 'removed').map(({ nodeId }) => nodeId)
    const gone = new Set([...this.#removed, ...removed])
    const nodes = [...this.#nodes.values()].filter(({ nodeId }) => !gone.has(nodeId))
    for (const { nodeId, host, port, shards } of registry) {
      if (gone.has(nodeId) || host === '' || port === 0) continue
      const { configured, nodeId: self } = this.#options
      const fixed = configured.find((member) => member.nodeId === nodeId)
      // Where this broker itself is reached nobody knows better.
      const own = nodeId === self ? this.#nodes.get(nodeId) : undefined
      nodes.push(own ?? { nodeId, host: fixed?.host ?? host, port: fixed?.port ?? port, shardCount: shards })
    }
    return this.#replace(
      nodes,
      [...gone].sort((a, b) => a - b),
    )
  }

  /** @param nodes a later one of an id counts. */
  #replace(nodes: readonly NodeInfo[], removed: readonly number[]): boolean {
    const before = JSON.stringify([this.list(), this.#removed])
    this.#nodes = new Map(nodes.map((node) => [node.nodeId, node]))
    this.#removed = removed
    return JSON.stringify([this.list(), this.#removed]) !== before
  }
}
