// Brokers that come, say where they are reached, and go: changes of the registry, on the node that leads the metadata.
import { ProtocolError } from '@millrace/protocol'
import { count, text } from '../fields.js'
import { MAX_MEMBERS } from '../limits.js'
import type { Fields } from '../message-pack.js'
import type { ClusterMembers } from './cluster-members.js'
import { type MetadataCommand, type NodePlace, place } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import type { MetadataState } from './metadata-state.js'
import type { NodeRecord } from './node-registry.js'

export interface NodeOperationsContext {
  readonly metadata: MetadataLog
  readonly members: ClusterMembers
  readonly clusterId: string
}

/** A node that has begun with an empty disk is known by it from now on, and reached where it says. */
export async function registerNode({ metadata }: NodeOperationsContext, fields: Fields): Promise<unknown> {
  const nodeId = count(fields, 'nodeId')
  const diskId = text(fields, 'diskId')
  const where = place(fields)
  if (isAt(metadata.state.node(nodeId), diskId, where)) return {}
  await metadata.propose((state) => {
    const known = state.node(nodeId)
    if (known === undefined) return { kind: 'registerNode', nodeId, diskId, ...where }
    refuseRemoved(known)
    if (known.diskId !== diskId) {
      throw new ProtocolError('WRONG_DISK', `node ${nodeId} began with disk ${known.diskId}, not ${diskId}`)
    }
    return { kind: 'updateNode', nodeId, ...where }
  })
  return {}
}

export function isAt(known: NodeRecord | undefined, diskId: string, where: NodePlace): boolean {
  if (known === undefined || known.state === 'removed') return false
  const { host, port, rack, shards } = known
  const isThere = host === where.host && port === where.port && rack === where.rack && shards === where.shards
  return isThere && known.diskId === diskId
}

/** A broker with an empty disk becomes a node. The same disk again is the same node. */
export async function joinCluster(context: NodeOperationsContext, fields: Fields): Promise<unknown> {
  const { metadata, members, clusterId } = context
  const diskId = text(fields, 'diskId')
  const where = place(fields)
  if (!/^[0-9a-f]{32}$/.test(diskId)) throw new ProtocolError('INVALID_REQUEST', 'a disk without an id')
  if (where.host === '' || where.port < 1 || where.port > 65_535) {
    throw new ProtocolError('INVALID_REQUEST', 'a node that nobody could reach')
  }
  await metadata.propose((state) => joinCommand(state, members, diskId, where))
  const { nodeId } = metadata.state.nodeByDisk(diskId)!
  const all = members.list().map(({ nodeId: id, host, port }) => ({ nodeId: id, host, port }))
  return { clusterId, nodeId, members: all, removed: members.removed }
}

function joinCommand(state: MetadataState, members: ClusterMembers, diskId: string, where: NodePlace): MetadataCommand {
  const known = state.nodeByDisk(diskId)
  if (known !== undefined) {
    refuseRemoved(known)
    return { kind: 'updateNode', nodeId: known.nodeId, ...where }
  }
  const { ids } = members
  if (ids.length >= MAX_MEMBERS) {
    throw new ProtocolError('INVALID_CONFIG', `the cluster has ${MAX_MEMBERS} brokers, and that is the limit`)
  }
  // Nodes of a configuration have their ids before they register.
  const nodeId = Math.max(state.nextNodeId, 1 + Math.max(...ids))
  return { kind: 'joinNode', nodeId, diskId, ...where }
}

function refuseRemoved({ nodeId, state }: NodeRecord): void {
  if (state === 'removed') throw new ProtocolError('NODE_REMOVED', `node ${nodeId} was removed from the cluster`)
}
