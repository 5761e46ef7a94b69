// Now and then two nodes tell each other everything they know (push-pull): a node that starts learns who is there, and what
// datagrams have lost is made good.
import type { GossipState } from './gossip-state.js'
import type { Address, NodeId, StateMessage } from './gossip-types.js'
import { addressOf, isLive } from './member-table.js'

export function tickExchange(state: GossipState): void {
  const { limits, members, nowMs } = state
  if (nowMs < state.nextExchangeAtMs || state.hasLeft) return
  const [partner] = members.draw(1, (entry) => isLive(entry.claim.state) && addressOf(entry) !== null)
  if (partner === undefined) return
  const { exchangePeriodMs, exchangeMembers } = limits
  const periodMs = exchangePeriodMs * (1 + Math.max(0, Math.ceil(Math.log2(members.liveCount / exchangeMembers))))
  state.nextExchangeAtMs = nowMs + periodMs + state.random(Math.ceil(periodMs / 10))
  const { nodeId } = partner.claim
  state.emit({ kind: 'exchange', to: nodeId, address: addressOf(partner), message: wholeState(state, 'stateRequest') })
}

/** When `tickExchange` or `tickSeeds` has something to do next. */
export function exchangeDueMs({ members, nextExchangeAtMs, nextSeedAtMs }: GossipState): number {
  // Without others it waits for the first one.
  return members.liveCount > 1 ? Math.min(nextExchangeAtMs, nextSeedAtMs) : nextSeedAtMs
}

/**
 * Seeds that nobody known listens at are asked again and again: nodes that start together may have found each other in two
 * groups that know nothing of one another.
 */
export function tickSeeds(state: GossipState): void {
  const { limits, nowMs, seeds } = state
  if (nowMs < state.nextSeedAtMs || state.hasLeft) return
  const isStarting = state.members.liveCount === 1 || nowMs - state.startedAtMs < limits.joinPeriodMs
  state.nextSeedAtMs = nowMs + (isStarting ? limits.joinRetryMs : limits.reconnectPeriodMs)
  const known = new Set([...state.members.all()].map((entry) => textOf(addressOf(entry))))
  const unknown = seeds.filter((seed) => !known.has(textOf(seed)))
  const address = unknown[state.random(Math.max(1, unknown.length))]
  if (address === undefined) return
  state.emit({ kind: 'exchange', to: 0, address, message: wholeState(state, 'stateRequest') })
}

function textOf(address: Address | null): string {
  return address === null ? '' : `${address.host} ${address.port}`
}

/** Somebody speaks whose address is not known: it is asked where it is, at where it spoke from. */
export function askBack(state: GossipState, nodeId: NodeId): void {
  if (state.nowMs < state.nextAskBackAtMs || state.hasLeft) return
  state.nextAskBackAtMs = state.nowMs + state.limits.joinRetryMs
  state.emit({ kind: 'exchange', to: nodeId, address: null, message: wholeState(state, 'stateRequest') })
}

/** A node that was away, or has never been heard, is heard now: no need to wait for anybody's turn. */
export function meet(state: GossipState, nodeId: NodeId, address: Address): void {
  const entry = state.members.get(nodeId)
  if (state.hasLeft || (entry?.claim.state === 'alive' && addressOf(entry) !== null)) return
  state.emit({ kind: 'exchange', to: nodeId, address, message: wholeState(state, 'stateRequest') })
}

export function answerState(state: GossipState, from: NodeId): void {
  state.emit({ kind: 'answer', to: from, message: wholeState(state, 'stateReply') })
}

function wholeState(state: GossipState, kind: StateMessage['kind']): StateMessage {
  const { metadata, leadership, members } = state
  return { kind, metadata, leadership, updates: [...members.all()].map(({ claim }) => claim) }
}
