// What this node knows of leaders, as one number: two nodes that know the same have the same, whatever order they learned it in.
import type { Route, RouteChange } from '@millrace/protocol'

/** 0 when no leader is known. An unsigned 32-bit number. */
export function leadershipHash(known: Iterable<RouteChange>): number {
  let hash = 0
  for (const { topicId, partition, route } of known) {
    if (isKnown(route)) hash = (hash + mixed(topicId, partition, route)) >>> 0
  }
  return hash
}

export const isKnown = ({ term }: Route): boolean => term > 0

function mixed(topicId: number, partition: number, { nodeId, shard, placement, term }: Route): number {
  let hash = 0
  for (const field of [topicId, partition, nodeId, shard, placement, term]) hash = stirred(hash ^ field)
  return hash
}

/** A bijection in which each bit of the input moves about half of those of the output (Murmur3, the finalizer). */
function stirred(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) + 0x9e3779b9
}
