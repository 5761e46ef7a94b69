// The route of a partition: who leads it, on which core, and how new that knowledge is. 12 bytes on the wire:
// u32 node, u16 shard, u16 placement, u32 term.
import type { Reader } from './reader.js'
import type { Writer } from './writer.js'

export interface RouteVersion {
  /** Term of the leader; decides first. */
  readonly term: number
  /** Counts moves between cores of one node; decides within a term. */
  readonly placement: number
}

export interface Route extends RouteVersion {
  /** 0 while there is no leader. */
  readonly nodeId: number
  readonly shard: number
}

export const ROUTE_BYTES = 12

/** Above 0 when `a` is newer than `b`, 0 when equal. */
export function compareRouteVersions(a: RouteVersion, b: RouteVersion): number {
  return a.term !== b.term ? a.term - b.term : a.placement - b.placement
}

/**
 * Whether what is known of a partition gives way to `route`: it is of a newer version, or of the same one and names a
 * leader where none was known. A broker that is deposed knows the term of the next leader before it knows who that is.
 */
export function supersedes(route: Route, known: Route): boolean {
  const newer = compareRouteVersions(route, known)
  return newer > 0 || (newer === 0 && known.nodeId === 0 && route.nodeId !== 0)
}

export function writeRoute(writer: Writer, route: Route): void {
  writer.u32(route.nodeId).u16(route.shard).u16(route.placement).u32(route.term)
}

export function readRoute(reader: Reader): Route {
  return { nodeId: reader.u32(), shard: reader.u16(), placement: reader.u16(), term: reader.u32() }
}
