// The nodes of the cluster as the metadata knows them: who they are, where they are reached, and who is gone for good.
import { ProtocolError } from '@millrace/protocol'
import { count, text, wrong } from '../fields.js'
import type { Fields } from '../message-pack.js'
import { type MetadataCommand, type NodePlace, place } from './metadata-command.js'

/**
 * `draining`: nothing new is placed there. `removed`: it is refused by every other node, and stays in the registry so that
 * its id is never another's.
 */
export type NodeState = 'active' | 'draining' | 'removed'

export interface NodeRecord extends NodePlace {
  readonly nodeId: number
  /** 32 hexadecimal digits. */
  readonly diskId: string
  readonly state: NodeState
}

const NODE_STATES: readonly NodeState[] = ['active', 'draining', 'removed']
/** Nodes of a cluster by configuration are registered by their disk alone. */
const NOWHERE: NodePlace = { host: '', port: 0, rack: null, shards: 1 }

type NodeCommand = MetadataCommand & { kind: 'registerNode' | 'joinNode' | 'updateNode' | 'drainNode' | 'removeNode' }

export class NodeRegistry {
  readonly #nodes = new Map<number, NodeRecord>()
  readonly #byDisk = new Map<string, NodeRecord>()
  #nextNodeId = 1
  /** Grows with everything that changes. */
  version = 0

  /** Above every id that was ever registered. */
  get nextNodeId(): number {
    return this.#nextNodeId
  }

  /** Removed ones too; in the order in which they came. */
  all(): readonly NodeRecord[] {
    return [...this.#nodes.values()]
  }

  find(nodeId: number): NodeRecord | undefined {
    return this.#nodes.get(nodeId)
  }

  byDisk(diskId: string): NodeRecord | undefined {
    return this.#byDisk.get(diskId)
  }

  isRemoved(nodeId: number): boolean {
    return this.#nodes.get(nodeId)?.state === 'removed'
  }

  /** One that does not fit changes nothing. @param isNamed whether some partition is to have a replica on the node. */
  apply(command: NodeCommand, isNamed: (nodeId: number) => boolean): void {
    switch (command.kind) {
      case 'registerNode':
        this.#register(command)
        return
      case 'joinNode':
        this.#join(command)
        return
      case 'updateNode':
        this.#change(command.nodeId, placeOf(command))
        return
      case 'drainNode':
        this.#change(command.nodeId, { state: command.drain ? 'draining' : 'active' })
        return
      case 'removeNode':
        if (!isNamed(command.nodeId)) this.#change(command.nodeId, { state: 'removed' })
        return
    }
  }

  #register({ kind: _, nodeId, diskId, ...where }: NodeCommand & { kind: 'registerNode' }): void {
    if (this.#nodes.has(nodeId) || this.#byDisk.has(diskId)) return
    this.#put({ nodeId, diskId, ...NOWHERE, ...where, state: 'active' })
  }

  /** The same disk again is the same node, and nothing new. */
  #join(command: NodeCommand & { kind: 'joinNode' }): void {
    const { nodeId, diskId } = command
    if (nodeId < this.#nextNodeId || this.#byDisk.has(diskId)) return
    this.#put({ nodeId, diskId, ...placeOf(command), state: 'active' })
  }

  /** Nothing about a node that is gone ever changes. */
  #change(nodeId: number, change: Partial<NodeRecord>): void {
    const known = this.#nodes.get(nodeId)
    if (known !== undefined && known.state !== 'removed') this.#put({ ...known, ...change })
  }

  #put(node: NodeRecord): void {
    this.version++
    this.#nodes.set(node.nodeId, node)
    this.#byDisk.set(node.diskId, node)
    this.#nextNodeId = Math.max(this.#nextNodeId, node.nodeId + 1)
  }

  restore(nodes: readonly NodeRecord[]): void {
    this.#nodes.clear()
    this.#byDisk.clear()
    this.#nextNodeId = 1
    this.version++
    for (const node of nodes) this.#put(node)
  }
}

/** @throws ProtocolError INVALID_REQUEST */
export function decodeNode(value: unknown): NodeRecord {
  if (typeof value !== 'object' || value === null) throw new ProtocolError('INVALID_REQUEST', 'a node is not a map')
  const fields = value as Fields
  const state = NODE_STATES.find((known) => known === fields.state) ?? wrong('state')
  return { nodeId: count(fields, 'nodeId'), diskId: text(fields, 'diskId'), ...place(fields), state }
}

/** What checkpoints held before nodes had more than a disk. @throws ProtocolError INVALID_REQUEST */
export function decodeDisk(value: unknown): NodeRecord {
  if (!Array.isArray(value) || typeof value[0] !== 'number' || typeof value[1] !== 'string') return wrong('disks')
  return { nodeId: value[0], diskId: value[1], ...NOWHERE, state: 'active' }
}

const placeOf = ({ host, port, rack, shards }: NodePlace): NodePlace => ({ host, port, rack, shards })
