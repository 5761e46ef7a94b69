// What this node knows of leaders, as one number: two nodes that know the same have the same, whatever order they learned it
// in. It is the sum of one number for each route, so that a route that changes costs no more than itself.
import type { Route } from '@millrace/protocol'

export const isKnown = ({ term }: Route): boolean => term > 0

/** What a route adds to the sum, which is an unsigned 32-bit number; 0 while no leader is known. */
export function routeHash(topicId: number, partition: number, route: Route): number {
  if (!isKnown(route)) return 0
  const { nodeId, shard, placement, term } = route
  let hash = stirred(topicId)
  hash = stirred(hash ^ partition)
  hash = stirred(hash ^ nodeId)
  hash = stirred(hash ^ shard)
  hash = stirred(hash ^ placement)
  return stirred(hash ^ term)
}

/** A bijection in which each bit of the input moves about half of those of the output (Murmur3, the finalizer). */
function stirred(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b)
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35)
  return (hash ^ (hash >>> 16)) + 0x9e3779b9
}
