// Now and then two nodes tell each other everything they know (push-pull): a node that starts learns who is there, and what
// datagrams have lost is made good.
import type { GossipState } from './gossip-state.js'
import type { NodeId, StateMessage } from './gossip-types.js'
import { addressOf, isLive } from './member-table.js'

export function tickExchange(state: GossipState): void {
  const { limits, members, nowMs } = state
  if (nowMs < state.nextExchangeAtMs || state.hasLeft) return
  const [partner] = members.draw(1, (entry) => isLive(entry.claim.state) && addressOf(entry) !== null)
  if (partner === undefined) {
    state.nextExchangeAtMs = nowMs + limits.joinRetryMs
    askSeed(state)
    return
  }
  const { exchangePeriodMs, exchangeMembers } = limits
  const periodMs = exchangePeriodMs * (1 + Math.max(0, Math.ceil(Math.log2(members.liveCount / exchangeMembers))))
  state.nextExchangeAtMs = nowMs + periodMs + state.random(Math.ceil(periodMs / 10))
  const { nodeId } = partner.claim
  state.emit({ kind: 'exchange', to: nodeId, address: addressOf(partner), message: wholeState(state, 'stateRequest') })
}

/** Somebody speaks whose address is not known: it is asked where it is, at where it spoke from. */
export function askBack(state: GossipState, nodeId: NodeId): void {
  if (state.nowMs < state.nextAskBackAtMs || state.hasLeft) return
  state.nextAskBackAtMs = state.nowMs + state.limits.joinRetryMs
  state.emit({ kind: 'exchange', to: nodeId, address: null, message: wholeState(state, 'stateRequest') })
}

export function answerState(state: GossipState, from: NodeId): void {
  state.emit({ kind: 'answer', to: from, message: wholeState(state, 'stateReply') })
}

function askSeed(state: GossipState): void {
  const address = state.seeds[state.random(Math.max(1, state.seeds.length))]
  if (address === undefined) return
  state.emit({ kind: 'exchange', to: 0, address, message: wholeState(state, 'stateRequest') })
}

function wholeState(state: GossipState, kind: StateMessage['kind']): StateMessage {
  const { metadata, leadership, members } = state
  return { kind, metadata, leadership, updates: [...members.all()].map(({ claim }) => claim) }
}
