// Copies of what others decide: a node says how far its own go, and finds out who has more. The streams between brokers bring
// the same sooner as a rule; this repairs what they have missed.
import { assert } from '@millrace/protocol'
import type { GossipState, Wanted } from './gossip-state.js'
import type { LeadershipDigest, MetadataDigest, NodeId } from './gossip-types.js'
import { spreadSoon } from './spreading.js'

/** This node has applied more of the metadata log. */
export function setMetadata(state: GossipState, digest: MetadataDigest): void {
  assert(digest.position >= state.metadata.position, 'what was applied of the metadata log stays applied')
  if (digest.position === state.metadata.position && digest.hash === state.metadata.hash) return
  state.metadata = digest
  if (state.wantedMetadata !== null && !isBehind(state, state.wantedMetadata.digest)) state.wantedMetadata = null
  tellSoon(state)
}

/** This node knows more leaders. */
export function setLeadership(state: GossipState, digest: LeadershipDigest): void {
  assert(digest.version >= state.leadership.version, 'what is known of leaders only grows')
  if (digest.version === state.leadership.version && digest.hash === state.leadership.hash) return
  state.leadership = digest
  if (state.wantedLeadership !== null && !lacksLeaders(state, state.wantedLeadership.digest)) {
    state.wantedLeadership = null
  }
  tellSoon(state)
}

export function hearDigests(
  state: GossipState,
  from: NodeId,
  { metadata, leadership }: { readonly metadata: MetadataDigest; readonly leadership: LeadershipDigest },
): void {
  const { limits } = state
  checkDivergence(state, from, metadata)
  if (isBehind(state, metadata)) {
    const isMore = (known: MetadataDigest): boolean => metadata.position > known.position
    state.wantedMetadata = want(state, state.wantedMetadata, metadata, from, limits.metadataGraceMs, isMore)
  }
  if (lacksLeaders(state, leadership)) {
    // Of two that only differ, the later one is what there is to be had.
    const isMore = (known: LeadershipDigest): boolean => leadership.version >= known.version
    state.wantedLeadership = want(state, state.wantedLeadership, leadership, from, limits.leadershipGraceMs, isMore)
  } else if (state.wantedLeadership?.from === from) {
    // Whoever had it has what is known here by now.
    state.wantedLeadership = null
  }
  tickDigests(state)
}

export function tickDigests(state: GossipState): void {
  const { wantedMetadata, wantedLeadership, nowMs, limits } = state
  if (wantedMetadata !== null && nowMs >= wantedMetadata.atMs) {
    wantedMetadata.atMs = nowMs + limits.pullRetryMs
    state.emit({ kind: 'pullMetadata', from: wantedMetadata.from, digest: wantedMetadata.digest })
  }
  if (wantedLeadership !== null && nowMs >= wantedLeadership.atMs) {
    wantedLeadership.atMs = nowMs + limits.pullRetryMs
    state.emit({ kind: 'pullLeadership', from: wantedLeadership.from, digest: wantedLeadership.digest })
  }
}

/** When `tickDigests` has something to do next; infinity while nothing is wanted. */
export function digestsDueMs({ wantedMetadata, wantedLeadership }: GossipState): number {
  const metadataMs = wantedMetadata?.atMs ?? Number.POSITIVE_INFINITY
  return Math.min(metadataMs, wantedLeadership?.atMs ?? Number.POSITIVE_INFINITY)
}

/** A member that is gone cannot be asked. */
export function forgetHolder(state: GossipState, nodeId: NodeId): void {
  if (state.wantedMetadata?.from === nodeId) state.wantedMetadata = null
  if (state.wantedLeadership?.from === nodeId) state.wantedLeadership = null
}

/**
 * One pull at a time: what comes meanwhile only says whom to ask the next time, since whoever was asked may be gone. Asking
 * again is never sooner because more was heard.
 */
function want<D>(
  state: GossipState,
  wanted: Wanted<D> | null,
  digest: D,
  from: NodeId,
  graceMs: number,
  isMore: (known: D) => boolean,
): Wanted<D> {
  if (wanted === null) return { digest, from, atMs: state.nowMs + graceMs }
  wanted.from = from
  if (isMore(wanted.digest)) wanted.digest = digest
  return wanted
}

function isBehind(state: GossipState, { position }: MetadataDigest): boolean {
  return position > state.metadata.position
}

/** With the same version and another hash, both know something that the other does not. */
function lacksLeaders(state: GossipState, { version, hash }: LeadershipDigest): boolean {
  const own = state.leadership
  return version > own.version || (version === own.version && hash !== own.hash)
}

function checkDivergence(state: GossipState, from: NodeId, digest: MetadataDigest): void {
  const own = state.metadata
  if (digest.position !== own.position || digest.hash === own.hash || state.divergedAt === own.position) return
  state.divergedAt = own.position
  state.emit({ kind: 'metadataDiverged', from, digest })
}

function tellSoon(state: GossipState): void {
  state.digestSends = state.retransmits
  spreadSoon(state)
}
