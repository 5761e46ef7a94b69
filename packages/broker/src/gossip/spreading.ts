// How news get to everybody: in rounds to a few members drawn by chance, beside what pings and their answers carry.
import type { GossipState } from './gossip-state.js'
import { addressOf, isLive } from './member-table.js'

export function tickSpreading(state: GossipState): void {
  const { limits, nowMs } = state
  if (nowMs >= state.nextRoundAtMs) spread(state)
  if (nowMs >= state.nextReconnectAtMs) {
    state.nextReconnectAtMs = nowMs + limits.reconnectPeriodMs
    reconnect(state)
  }
}

/** When `tickSpreading` has something to do next. */
export function spreadingDueMs(state: GossipState): number {
  return hasNews(state) ? Math.min(state.nextRoundAtMs, state.nextReconnectAtMs) : state.nextReconnectAtMs
}

const hasNews = ({ news, digestSends }: GossipState): boolean => news.size > 0 || digestSends > 0

/** What does not wait for the next round, unless there was one just now. */
export function spreadSoon(state: GossipState): void {
  const dueAtMs = state.lastRoundAtMs + state.limits.urgentGapMs
  if (state.nowMs >= dueAtMs) spread(state)
  else state.nextRoundAtMs = Math.min(state.nextRoundAtMs, dueAtMs)
}

function spread(state: GossipState): void {
  const { limits, nowMs } = state
  state.nextRoundAtMs = nowMs + limits.gossipPeriodMs
  if (!hasNews(state)) return
  state.lastRoundAtMs = nowMs
  const targets = state.members.draw(limits.gossipFanout, (entry) => {
    if (addressOf(entry) === null || entry.claim.state === 'left') return false
    return isLive(entry.claim.state) || nowMs - entry.deadAtMs < limits.deadGossipMs
  })
  for (const { claim } of targets) {
    if (hasNews(state)) state.send(claim.nodeId, { kind: 'gossip' })
  }
}

/**
 * After a network was cut in two, each side holds the other one for dead and probes nobody there: this finds it again. The
 * ping carries the rumour of its death, the answer that it is not true.
 */
function reconnect(state: GossipState): void {
  if (state.hasLeft) return
  const [lost] = state.members.draw(1, (entry) => entry.claim.state === 'dead' && addressOf(entry) !== null)
  if (lost !== undefined) state.send(lost.claim.nodeId, { kind: 'ping', sequence: state.nextSequence() })
}
