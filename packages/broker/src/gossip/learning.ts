// What others say of members: checked, merged, passed on, and told to whoever listens.
import { compareVersions, isValidClaim, mergeClaims, viewOf } from './claims.js'
import { type GossipState, withoutProfile } from './gossip-state.js'
import type { Claim, MemberChange } from './gossip-types.js'
import { isLive, type MemberEntry } from './member-table.js'
import { answerClaim } from './own-claim.js'
import { suspicionMs } from './suspicion.js'

export function learn(state: GossipState, claim: Claim): void {
  if (!isAcceptable(state, claim)) return
  if (claim.nodeId === state.nodeId) {
    answerClaim(state, claim)
    return
  }
  const known = state.members.get(claim.nodeId)?.claim
  if (known === undefined && state.members.size >= state.limits.maxMembers) {
    state.counters.strangers++
    return
  }
  const merged = known === undefined ? claim : mergeClaims(known, claim, state.limits.maxAccusers)
  if (merged === known) return
  const entry = state.members.put(merged, state.nowMs)
  passOn(state, known, merged)
  if (merged.state === 'suspect') suspect(state, known, entry)
  else state.members.setSuspicion(entry, null)
  const change = changeOf(known, merged)
  if (change !== null) state.emit({ kind: 'member', change, member: viewOf(merged) })
}

function isAcceptable(state: GossipState, claim: Claim): boolean {
  const { registry, counters, limits } = state
  if (registry !== null && !registry.has(claim.nodeId)) {
    counters.strangers++
    return false
  }
  if (!isValidClaim(claim)) {
    counters.invalid++
    return false
  }
  const known = state.members.get(claim.nodeId)?.claim
  if (known !== undefined && isFarFuture(known, claim, limits.maxVersionStep)) {
    counters.farFuture++
    return false
  }
  return true
}

/** Nobody has started or contradicted so often since it was last heard of: believing it would use the numbers up. */
function isFarFuture(known: Claim, claim: Claim, maxStep: number): boolean {
  if (claim.bootId !== known.bootId) return claim.bootId > known.bootId + maxStep
  return claim.incarnation > known.incarnation + maxStep
}

function passOn(state: GossipState, known: Claim | undefined, merged: Claim): void {
  // The record alone of somebody who is silent is no news.
  const isNews = known === undefined || compareNews(known, merged)
  if (isNews) state.news.add(merged.state === 'alive' ? merged : withoutProfile(merged))
}

function compareNews(known: Claim, merged: Claim): boolean {
  return (
    merged.state !== known.state ||
    compareVersions(merged, known) !== 0 ||
    merged.accusers.length > known.accusers.length
  )
}

function changeOf(known: Claim | undefined, merged: Claim): MemberChange | null {
  if (known === undefined || known.state !== merged.state) return merged.state === 'alive' ? 'up' : merged.state
  if (known.bootId !== merged.bootId) return merged.state === 'alive' ? 'up' : merged.state
  return known.profile === merged.profile ? null : 'changed'
}

/** The clock of a suspicion runs from when this node first hears of it; each version of a member has its own. */
function suspect(state: GossipState, known: Claim | undefined, entry: MemberEntry): void {
  const { claim, suspicion } = entry
  const isOld = suspicion !== null && known !== undefined && compareVersions(known, claim) === 0
  if (isOld) return
  state.members.setSuspicion(entry, { startMs: state.nowMs })
  // A few of those who hear of it look for themselves: that confirms it soon, or lets the member contradict.
  const { suspicionCheckers } = state.limits
  const others = state.members.liveCount - 2
  if (!claim.accusers.includes(state.nodeId) && others > 0 && state.random(others) < suspicionCheckers) {
    state.probeFirst.add(claim.nodeId)
  }
}

/** When `tickSuspicions` has something to do next; infinity while nobody is suspected. */
export function suspicionsDueMs(state: GossipState): number {
  let dueMs = Number.POSITIVE_INFINITY
  for (const entry of state.members.suspected) dueMs = Math.min(dueMs, suspicionEndMs(state, entry))
  return dueMs
}

function suspicionEndMs({ limits, members }: GossipState, { claim, suspicion }: MemberEntry): number {
  if (suspicion === null) return Number.POSITIVE_INFINITY
  const accusers = Math.max(1, claim.accusers.length)
  return suspicion.startMs + suspicionMs(limits, members.liveCount, accusers)
}

/** This node itself has found a member silent: the first to do so, or one more. */
export function accuse(state: GossipState, entry: MemberEntry): void {
  const { nodeId, bootId, incarnation, state: now } = entry.claim
  if (!isLive(now)) return
  const accusers = [state.nodeId]
  learn(state, { nodeId, bootId, incarnation, state: 'suspect', accusers, profile: null })
}

/** Whoever has not contradicted in time is dead, as far as anybody can tell. */
export function tickSuspicions(state: GossipState): void {
  for (const entry of state.members.suspected) {
    if (state.nowMs < suspicionEndMs(state, entry)) continue
    const { nodeId, bootId, incarnation } = entry.claim
    state.counters.deaths++
    learn(state, { nodeId, bootId, incarnation, state: 'dead', accusers: [], profile: null })
  }
}
