// The limits of gossip, and how they hang together.
import { assert } from '@millrace/protocol'

export interface GossipLimits {
  /** How often the shell looks at most for what time has brought about; ticks that would find nothing are left out. */
  readonly tickMs: number
  /** One member is probed in each; both are stretched while this node itself is in a bad way. */
  readonly probePeriodMs: number
  /** Without an answer for so long, others are asked to probe, too. */
  readonly probeTimeoutMs: number
  readonly indirectProbes: number
  /** Whoever probes for somebody else says so after this long without an answer. */
  readonly nackMs: number
  /** The shortest suspicion, in probe periods: at least so many, and so many for each decimal digit of the members. */
  readonly suspicionMinPeriods: number
  readonly suspicionPeriodsPerDigit: number
  /** The longest suspicion, in shortest ones. */
  readonly suspicionMaxFactor: number
  /** Of others, after which a suspicion is as short as can be. */
  readonly confirmations: number
  /** Of those who hear of a suspicion, how many look for themselves at once. */
  readonly suspicionCheckers: number
  readonly gossipPeriodMs: number
  readonly gossipFanout: number
  /** Between two rounds of gossip when there is something urgent. */
  readonly urgentGapMs: number
  /** How often a node passes on one piece of news, for each decimal digit of the members. */
  readonly retransmitFactor: number
  /** The dead are gossiped to for so long, so that they may contradict. */
  readonly deadGossipMs: number
  /** How often one of the dead is looked for. */
  readonly reconnectPeriodMs: number
  /** How often everything is exchanged with somebody, in a cluster of `exchangeMembers`; in a larger one more seldom. */
  readonly exchangePeriodMs: number
  readonly exchangeMembers: number
  /** How soon a node that has just started, or knows nobody, tries the next seed it knows nobody at; later, like the dead. */
  readonly joinRetryMs: number
  readonly joinPeriodMs: number
  /** How many times as long as usual a node in a bad way waits, at most. */
  readonly maxAwareness: number
  /** A tick that comes later than this says that the node itself was not running. */
  readonly stallMs: number
  /** For how long a late tick counts. */
  readonly stallMemoryMs: number
  /** How often a node spreads a new load: at least this apart, and this much for each member. */
  readonly loadPeriodMs: number
  readonly loadPeriodPerMemberMs: number
  /** How long the streams get to bring what a digest tells of before it is pulled. */
  readonly metadataGraceMs: number
  readonly leadershipGraceMs: number
  /** How soon a pull that has brought nothing is asked for again. */
  readonly pullRetryMs: number
  readonly maxMembers: number
  /** Probes for others under way. */
  readonly maxRelays: number
  readonly maxAccusers: number
  /** How far a version may be ahead of the one that is known. */
  readonly maxVersionStep: number
  /** Of a datagram, sealed. */
  readonly datagramBytes: number
}

export const GOSSIP_LIMITS: GossipLimits = {
  tickMs: 50,
  probePeriodMs: 500,
  probeTimeoutMs: 200,
  indirectProbes: 3,
  nackMs: 150,
  suspicionMinPeriods: 3,
  suspicionPeriodsPerDigit: 2,
  suspicionMaxFactor: 6,
  confirmations: 2,
  suspicionCheckers: 3,
  gossipPeriodMs: 100,
  gossipFanout: 3,
  urgentGapMs: 20,
  retransmitFactor: 4,
  deadGossipMs: 30_000,
  reconnectPeriodMs: 5_000,
  exchangePeriodMs: 10_000,
  exchangeMembers: 32,
  joinRetryMs: 1_000,
  joinPeriodMs: 20_000,
  maxAwareness: 8,
  stallMs: 100,
  stallMemoryMs: 5_000,
  loadPeriodMs: 10_000,
  loadPeriodPerMemberMs: 200,
  metadataGraceMs: 0,
  leadershipGraceMs: 200,
  pullRetryMs: 1_000,
  maxMembers: 1_024,
  maxRelays: 256,
  maxAccusers: 4,
  maxVersionStep: 2 ** 20,
  datagramBytes: 1_400,
}

/** Versions stay below this; an owner that gets there begins a new boot id. */
export const MAX_VERSION = 0x7fff_ffff

/** @throws AssertionError when the limits contradict each other. */
export function assertGossipLimits(limits: GossipLimits): void {
  assert(limits.tickMs > 0 && limits.probeTimeoutMs >= limits.tickMs, 'a probe takes a tick or more')
  assert(
    limits.probeTimeoutMs + limits.nackMs + limits.tickMs < limits.probePeriodMs,
    'an indirect probe and its nack fit into what is left of the period',
  )
  assert(limits.suspicionMinPeriods > 0 && limits.suspicionMaxFactor >= 1, 'a suspicion lasts')
  assert(limits.maxAccusers > limits.confirmations, 'all accusers that count are remembered')
  assert(limits.gossipFanout > 0 && limits.retransmitFactor > 0, 'news are passed on')
  assert(limits.urgentGapMs <= limits.gossipPeriodMs, 'what is urgent does not wait for longer')
  assert(limits.maxAwareness >= 1, 'nobody waits for less than usual')
  assert(limits.stallMs > limits.tickMs, 'a tick may be one tick late')
  assert(limits.maxMembers > 0 && limits.maxRelays > 0, 'somebody may be known and helped')
  assert(limits.maxVersionStep > 0 && limits.maxVersionStep < MAX_VERSION, 'a version may be ahead')
  assert(limits.datagramBytes >= 1_200 && limits.datagramBytes <= 1_400, 'any one claim fits into a datagram')
}

assertGossipLimits(GOSSIP_LIMITS)
