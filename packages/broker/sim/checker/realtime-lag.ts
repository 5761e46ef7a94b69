// How long acknowledged records take to reach whoever follows their topic: a figure, not a verdict.
import type { History } from './history.js'

/**
 * The longest time in milliseconds between the moment at which a record was acknowledged, and a session that follows its
 * topic was there, and its delivery to that session; 0 when there was none. Only what was acknowledged from `fromMs` on
 * counts.
 */
export function worstRealtimeLagMs({ sends, sessions }: History, fromMs = 0): number {
  const settledAt = new Map<number, number>()
  for (const { recordId, outcome, settledAtMs } of sends) {
    if (outcome === 'acknowledged' && settledAtMs >= fromMs) settledAt.set(recordId, settledAtMs)
  }
  let worst = 0
  for (const { openedAtMs, reads } of sessions) {
    for (const { recordId, atMs } of reads) {
      const settledAtMs = recordId === null ? undefined : settledAt.get(recordId)
      if (settledAtMs === undefined || settledAtMs < openedAtMs) continue
      worst = Math.max(worst, atMs - settledAtMs)
    }
  }
  return worst
}
