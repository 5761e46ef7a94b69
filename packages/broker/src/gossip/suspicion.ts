// For how long a suspect may contradict: the less time, the more others have found it silent, too (Lifeguard, LHA-Suspicion).
import type { GossipLimits } from './gossip-limits.js'

export interface Suspicion {
  /** Later when this node itself stood still meanwhile. */
  startMs: number
}

/**
 * @param members that are not dead, the suspect and this node among them.
 * @param accusers who have found it silent, from 1.
 */
export function suspicionMs(limits: GossipLimits, members: number, accusers: number): number {
  const periods = Math.max(limits.suspicionMinPeriods, limits.suspicionPeriodsPerDigit * Math.log10(members))
  const shortestMs = periods * limits.probePeriodMs
  const longestMs = shortestMs * limits.suspicionMaxFactor
  // In a small cluster there may be nobody else to ask.
  const wanted = Math.min(limits.confirmations, members - 2)
  if (wanted < 1) return shortestMs
  const share = Math.log(Math.min(accusers, wanted + 1)) / Math.log(wanted + 1)
  return longestMs - (longestMs - shortestMs) * share
}
