// Partitions that nobody is known to lead, and what can be said of who has them: only a leader knows for certain who belongs
// to a group, and without one its replicas are asked what their logs say.
import { membersOf } from '../raft/configuration.js'
import type { Configuration, NodeId } from '../raft/raft-types.js'
import type { PartitionMove } from './partition-moves.js'

/** Partitions by topic, short enough to travel. */
export type PartitionLists = readonly (readonly [topicId: number, partitions: readonly number[]])[]

/** What one node knows of a partition that nobody leads. A node that cannot tell says nothing. */
export interface Testimony extends Configuration {
  readonly topicId: number
  readonly partition: number
  /** Whether it has a replica. */
  readonly isHere: boolean
  /** Whether that may have lost what it knew, or does not do its part. */
  readonly isRepairing: boolean
  /** Of the last batch of its log. */
  readonly term: number
  readonly index: number
}

export interface Leaderless {
  readonly topicId: number
  readonly partition: number
  readonly target: readonly NodeId[]
  readonly testimonies: ReadonlyMap<NodeId, Testimony>
}

/**
 * Whether a node may belong to the group, and its replica be one that the records cannot be had without. Doubt counts: for a
 * node that does not answer, it is only certain when nobody can have let it in without those who do.
 */
export function mayHold({ testimonies }: Leaderless, nodeId: NodeId): boolean {
  const own = testimonies.get(nodeId)
  const isNamed = [...testimonies.values()].some((testimony) => membersOf(testimony).includes(nodeId))
  return isNamed || (own === undefined ? !isCertain(testimonies) : own.isHere)
}

/**
 * Whether those who answer know who belongs to the group. A change is in the logs of most of the members it was made by: where
 * most of the members of every configuration that is known have answered, nobody knows a newer one.
 */
function isCertain(testimonies: Leaderless['testimonies']): boolean {
  const known = [...testimonies.values()].filter(({ voters }) => voters.length > 0)
  const answers = (nodeId: NodeId): boolean => {
    const testimony = testimonies.get(nodeId)
    return testimony !== undefined && testimony.voters.length > 0 && !testimony.isRepairing
  }
  const haveMost = (nodes: readonly NodeId[]): boolean =>
    nodes.length === 0 || 2 * nodes.filter(answers).length > nodes.length
  return known.length > 0 && known.every(({ voters, outgoing }) => haveMost(voters) && haveMost(outgoing))
}

/**
 * Whether all that was ever committed is to be had from others than this node, also where nobody leads: everybody else of
 * every configuration that is known answers, and has lost nothing. Whatever was committed, a change of members too, is in the
 * log of one of them at least, since no majority of two or more is one node.
 */
export function areOthersWhole(testimonies: Iterable<readonly [NodeId, Testimony]>, self: NodeId): boolean {
  const others = new Map([...testimonies].filter(([nodeId]) => nodeId !== self))
  const known = [...others.values()].filter(({ voters }) => voters.length > 0)
  const isWhole = (nodeId: NodeId): boolean => {
    const testimony = others.get(nodeId)
    return nodeId === self || (testimony?.isRepairing === false && testimony.voters.length > 0)
  }
  const areWhole = (nodes: readonly NodeId[]): boolean =>
    nodes.every(isWhole) && (nodes.length !== 1 || nodes[0] !== self)
  return known.length > 0 && known.every(({ voters, outgoing }) => areWhole(voters) && areWhole(outgoing))
}

/** As a move is shown: who belongs to the group is what the replica with the most of its log says. */
export function asMove({ topicId, partition, target, testimonies }: Leaderless): PartitionMove {
  const known = [...testimonies.values()].filter(({ voters }) => voters.length > 0)
  const best = known.sort((a, b) => b.term - a.term || b.index - a.index)[0]
  const { voters, outgoing, learners } = best ?? { voters: [], outgoing: [], learners: [] }
  return { topicId, partition, target, hasLeader: false, voters, outgoing, learners, replicas: [] }
}
