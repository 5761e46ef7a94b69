// What is said of a node, put together: the order of claims, and their merge. Merging is commutative, associative and
// idempotent, so that all nodes come to the same whatever reaches them in whatever order, however often.
import type {
  Address,
  Claim,
  ClaimVersion,
  MemberRecord,
  MemberState,
  MemberView,
  NodeId,
  Profile,
} from './gossip-types.js'

/** Of the same version, the worse news counts: only the owner contradicts it, with a higher version. */
const RANK: Readonly<Record<MemberState, number>> = { alive: 0, suspect: 1, dead: 2, left: 3 }

/** Below 0 when `left` is older. */
export function compareVersions(left: ClaimVersion, right: ClaimVersion): number {
  return left.bootId - right.bootId || left.incarnation - right.incarnation
}

export function compareStatus(left: Claim, right: Claim): number {
  return compareVersions(left, right) || RANK[left.state] - RANK[right.state]
}

/** Returns `known` itself when `heard` says nothing new. @param maxAccusers remembered, the lowest ids first. */
export function mergeClaims(known: Claim, heard: Claim, maxAccusers: number): Claim {
  const order = compareStatus(known, heard)
  const status = order < 0 ? heard : known
  const accusers = order === 0 ? unite(known.accusers, heard.accusers, maxAccusers) : status.accusers
  const profile = newerProfile(known.profile, heard.profile)
  if (status === known && accusers === known.accusers && profile === known.profile) return known
  const { nodeId, bootId, incarnation, state } = status
  return { nodeId, bootId, incarnation, state, accusers, profile }
}

/** The lowest ids of both: of two nodes that merge the same things in another order, none remembers other ones. */
function unite(known: readonly NodeId[], heard: readonly NodeId[], most: number): readonly NodeId[] {
  const all = [...new Set([...known, ...heard])].sort((left, right) => left - right).slice(0, most)
  return all.length === known.length && all.every((nodeId, at) => nodeId === known[at]) ? known : all
}

function newerProfile(known: Profile | null, heard: Profile | null): Profile | null {
  if (heard === null || known === heard) return known
  if (known === null) return heard
  const order = compareVersions(known, heard)
  if (order !== 0) return order > 0 ? known : heard
  if (sameRecord(known.record, heard.record)) return known
  // An owner never says two things in one version. Should one do so all the same, everybody believes the same of them.
  return textOf(known.record) >= textOf(heard.record) ? known : heard
}

function textOf({ client, peer, shards, rack, version, load }: MemberRecord): string {
  const { bytesPerSecond, freeDiskBytes, partitionsLed } = load
  const fields = [client.host, client.port, peer.host, peer.port, shards, rack, version]
  return JSON.stringify([...fields, bytesPerSecond, freeDiskBytes, partitionsLed])
}

export function sameRecord(left: MemberRecord, right: MemberRecord): boolean {
  if (left === right) return true
  const { load } = left
  return (
    sameButLoad(left, right) &&
    load.bytesPerSecond === right.load.bytesPerSecond &&
    load.freeDiskBytes === right.load.freeDiskBytes &&
    load.partitionsLed === right.load.partitionsLed
  )
}

/** Whether two records differ in nothing but the load. */
export function sameButLoad(left: MemberRecord, right: MemberRecord): boolean {
  return (
    sameAddress(left.client, right.client) &&
    sameAddress(left.peer, right.peer) &&
    left.shards === right.shards &&
    left.rack === right.rack &&
    left.version === right.version
  )
}

function sameAddress(left: Address, right: Address): boolean {
  return left.host === right.host && left.port === right.port
}

/** A claim that no node of this software makes is none. */
export function isValidClaim({ state, accusers, profile, bootId, incarnation }: Claim): boolean {
  if (state !== 'suspect' && accusers.length > 0) return false
  if (state === 'alive') return profile !== null && compareVersions(profile, { bootId, incarnation }) === 0
  return profile === null || compareVersions(profile, { bootId, incarnation }) <= 0
}

export function viewOf({ nodeId, bootId, incarnation, state, profile }: Claim): MemberView {
  return { nodeId, bootId, incarnation, state, record: profile?.record ?? null }
}
