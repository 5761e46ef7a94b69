// What a node says of itself. Nobody else raises its version: so whoever has the highest one has its own word.
import { assertRecord } from './claim-codec.js'
import { compareStatus, compareVersions, sameButLoad, sameRecord, viewOf } from './claims.js'
import { MAX_VERSION } from './gossip-limits.js'
import type { GossipState } from './gossip-state.js'
import type { Claim, ClaimVersion, MemberRecord } from './gossip-types.js'

/** A record that says something new is told at once, a load alone only now and then. */
export function setRecord(state: GossipState, record: MemberRecord): void {
  assertRecord(record)
  const told = state.own.profile?.record
  state.record = record
  if (told === undefined || sameRecord(told, record) || state.hasLeft) return
  if (!sameButLoad(told, record)) sayAnew(state, state.own)
}

export function tickLoad(state: GossipState): void {
  if (state.nowMs < state.nextLoadAtMs) return
  const { limits, members, own } = state
  state.nextLoadAtMs = state.nowMs + Math.max(limits.loadPeriodMs, limits.loadPeriodPerMemberMs * members.size)
  const told = own.profile?.record
  if (told !== undefined && !sameRecord(told, state.record) && !state.hasLeft) sayAnew(state, own)
}

/** Says good-bye: nobody has to suspect it. Only a new start takes this back. */
export function leave(state: GossipState): void {
  if (state.hasLeft) return
  state.hasLeft = true
  state.probe = null
  tell(state, { ...state.own, state: 'left' })
}

/** Somebody has said something of this very node. */
export function answerClaim(state: GossipState, claim: Claim): void {
  const { own } = state
  if (state.hasLeft || compareStatus(claim, own) < 0) return
  // An old rumour: what this node has said since then contradicts it.
  if (compareVersions(claim, own) < 0) return
  if (claim.state === 'alive') {
    const isEcho = compareVersions(claim, own) === 0 && sameRecord(claim.profile!.record, own.profile!.record)
    if (isEcho) return
    const { bootId, incarnation } = own
    sayAnew(state, claim)
    state.emit({ kind: 'contested', claim: versionOf(claim), own: { bootId, incarnation } })
    return
  }
  sayAnew(state, claim)
  state.counters.refutations++
  // Others have not heard from this node: it may be the one that is slow.
  state.awareness.change(1)
  state.emit({ kind: 'refuted', accused: claim.state, own: versionOf(state.own) })
}

/** Alive, with the record of now, in a version above `above`: as another process than one of a later start, in any case. */
function sayAnew(state: GossipState, above: ClaimVersion): void {
  const isOther = above.bootId > state.own.bootId || above.incarnation >= MAX_VERSION
  const bootId = isOther ? above.bootId + 1 : above.bootId
  const incarnation = isOther ? 0 : above.incarnation + 1
  const { nodeId, record } = state
  tell(state, { nodeId, bootId, incarnation, state: 'alive', accusers: [], profile: { bootId, incarnation, record } })
}

function tell(state: GossipState, claim: Claim): void {
  state.members.put(claim, state.nowMs)
  state.news.add(claim)
  const change = claim.state === 'left' ? 'left' : 'changed'
  state.emit({ kind: 'member', change, member: viewOf(claim) })
}

function versionOf({ bootId, incarnation }: ClaimVersion): ClaimVersion {
  return { bootId, incarnation }
}
