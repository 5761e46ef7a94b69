// Who is there: each period one member is pinged, all of them in turn; who does not answer is pinged through others, and then
// suspected (SWIM, 3.1 and 4.3; Lifeguard adds the nacks, which tell a silent member from a silent network around this node).
import type { GossipState, Relay } from './gossip-state.js'
import type { NodeId } from './gossip-types.js'
import { accuse } from './learning.js'
import { addressOf, isLive, type MemberEntry } from './member-table.js'

export function tickProbing(state: GossipState): void {
  const { probe, nowMs } = state
  if (probe !== null && !probe.hasAnswer) {
    if (nowMs >= probe.endAtMs) probeFailed(state)
    else if (nowMs >= probe.indirectAtMs && probe.helpers === 0) askOthers(state, probe.nodeId, probe.sequence)
  }
  tickRelays(state)
  if (nowMs >= state.nextProbeAtMs) probeNext(state)
}

/** When `tickProbing` has something to do next. */
export function probingDueMs({ probe, relays, nextProbeAtMs }: GossipState): number {
  let dueMs = nextProbeAtMs
  if (probe !== null && !probe.hasAnswer) {
    dueMs = Math.min(dueMs, probe.endAtMs, probe.helpers === 0 ? probe.indirectAtMs : dueMs)
  }
  for (const { nackAtMs, endAtMs, saidNo } of relays.values()) dueMs = Math.min(dueMs, saidNo ? endAtMs : nackAtMs)
  return dueMs
}

/** Everything that waits for an answer goes on waiting: this node was not there to take it. */
export function postponeProbes(state: GossipState, delayMs: number): void {
  const { probe } = state
  if (probe !== null) {
    probe.indirectAtMs += delayMs
    probe.endAtMs += delayMs
    state.nextProbeAtMs += delayMs
  }
  for (const relay of state.relays.values()) {
    relay.nackAtMs += delayMs
    relay.endAtMs += delayMs
  }
}

export function receiveAck(state: GossipState, from: NodeId, sequence: number): void {
  const relay = state.relays.get(sequence)
  if (relay !== undefined) {
    state.relays.delete(sequence)
    state.send(relay.requester, { kind: 'ack', sequence: relay.sequence })
    return
  }
  const { probe } = state
  // An ack by way of somebody else counts as much.
  if (probe === null || probe.sequence !== sequence || probe.hasAnswer) return
  if (from === probe.nodeId || probe.helpers > 0) probeAnswered(state)
}

export function receiveNack(state: GossipState, sequence: number): void {
  const { probe } = state
  if (probe !== null && probe.sequence === sequence) probe.nacks++
}

/** A sign of life that came another way, such as on a stream between the two nodes. */
export function heard(state: GossipState, nodeId: NodeId): void {
  if (state.probe?.nodeId === nodeId && !state.probe.hasAnswer) probeAnswered(state)
}

/** A stream to it has broken: it is looked for before all others, and at once unless another probe is under way. */
export function lostContact(state: GossipState, nodeId: NodeId): void {
  if (probeable(state, nodeId) === null) return
  state.probeFirst.add(nodeId)
  if (state.probe === null || state.probe.hasAnswer) state.nextProbeAtMs = state.nowMs
}

export function receivePingRequest(state: GossipState, from: NodeId, sequence: number, target: NodeId): void {
  const { relays, limits, nowMs } = state
  if (target === state.nodeId) {
    state.send(from, { kind: 'ack', sequence }, true)
    return
  }
  if (relays.size >= limits.maxRelays || state.members.get(target) === undefined) return
  const own = state.nextSequence()
  relays.set(own, {
    requester: from,
    sequence,
    nackAtMs: nowMs + limits.nackMs,
    endAtMs: nowMs + limits.probePeriodMs,
    saidNo: false,
  })
  state.send(target, { kind: 'ping', sequence: own })
}

function tickRelays(state: GossipState): void {
  for (const [sequence, relay] of state.relays) {
    if (state.nowMs >= relay.nackAtMs && !relay.saidNo) sayNo(state, relay)
    // An answer that is late is passed on as long as it may be of use.
    if (state.nowMs >= relay.endAtMs) state.relays.delete(sequence)
  }
}

function sayNo(state: GossipState, relay: Relay): void {
  relay.saidNo = true
  state.send(relay.requester, { kind: 'nack', sequence: relay.sequence })
}

function probeNext(state: GossipState): void {
  const { limits, awareness, nowMs } = state
  const periodMs = limits.probePeriodMs * awareness.factor
  state.nextProbeAtMs = nowMs + periodMs
  state.probe = null
  const entry = nextTarget(state)
  if (entry === null) return
  const { nodeId } = entry.claim
  const sequence = state.nextSequence()
  const indirectAtMs = nowMs + limits.probeTimeoutMs * awareness.factor
  // A tick before the next one, so that its outcome is known by then.
  const endAtMs = nowMs + periodMs - limits.tickMs
  state.probe = { nodeId, sequence, indirectAtMs, endAtMs, helpers: 0, nacks: 0, hasAnswer: false }
  state.counters.probes++
  state.send(nodeId, { kind: 'ping', sequence })
}

function nextTarget(state: GossipState): MemberEntry | null {
  for (const nodeId of state.probeFirst) {
    state.probeFirst.delete(nodeId)
    const entry = probeable(state, nodeId)
    if (entry !== null) return entry
  }
  for (let looked = 0; looked <= state.members.size; looked++) {
    if (state.ringAt >= state.ring.length) shuffleRing(state)
    const nodeId = state.ring[state.ringAt++]
    if (nodeId === undefined) return null
    const entry = probeable(state, nodeId)
    if (entry !== null) return entry
  }
  return null
}

function probeable(state: GossipState, nodeId: NodeId): MemberEntry | null {
  const entry = state.members.get(nodeId)
  if (entry === undefined || nodeId === state.nodeId) return null
  return isLive(entry.claim.state) && addressOf(entry) !== null ? entry : null
}

/** All in turn, so that nobody waits for more than two times round, and in an order of each node's own (SWIM, 4.3). */
function shuffleRing(state: GossipState): void {
  state.ring = state.members.draw(state.members.size, () => true).map(({ claim }) => claim.nodeId)
  state.ringAt = 0
}

/** Somebody new is probed in this time round. */
export function addToRing(state: GossipState, nodeId: NodeId): void {
  const left = state.ring.length - state.ringAt
  state.ring.splice(state.ringAt + state.random(left + 1), 0, nodeId)
}

function askOthers(state: GossipState, target: NodeId, sequence: number): void {
  const helpers = state.members.draw(
    state.limits.indirectProbes,
    (entry) => entry.claim.nodeId !== target && entry.claim.state === 'alive' && addressOf(entry) !== null,
  )
  for (const { claim } of helpers) state.send(claim.nodeId, { kind: 'pingRequest', sequence, target })
  if (state.probe !== null) state.probe.helpers = helpers.length
}

function probeAnswered(state: GossipState): void {
  if (state.probe !== null) state.probe.hasAnswer = true
  state.awareness.change(-1)
}

function probeFailed(state: GossipState): void {
  const { probe } = state
  if (probe === null) return
  state.probe = null
  state.counters.failedProbes++
  // Helpers that say nothing at all speak against this node, not against the one it looked for.
  const missing = probe.helpers - Math.min(probe.nacks, probe.helpers)
  state.awareness.change(probe.helpers === 0 ? 1 : missing)
  const entry = state.members.get(probe.nodeId)
  if (entry !== undefined) accuse(state, entry)
}
