// The history checker: every invariant over one history, independent of broker and client.
import { checkHighWatermarks, checkStartBounds } from './check-bounds.js'
import { checkDeleted, checkEnds, checkLives, checkStarts, checkUnseen } from './check-ends.js'
import {
  checkDense,
  checkDuplicates,
  checkKeyOrder,
  checkLost,
  checkPositions,
  checkRouting,
  checkSendOrder,
} from './check-log.js'
import { checkAgreement, checkContents, checkDirty, checkSessions } from './check-reads.js'
import { checkReplicaOrder, checkReplicasAgree, checkWholeBatches } from './check-replicas.js'
import type { History, Violation } from './history.js'
import { RecordIndex } from './record-index.js'

/**
 * In the order in which a reader wants to hear of them: a broken record is the cause of a lost one more often than the
 * other way round.
 */
const CHECKS = [
  checkContents,
  checkDuplicates,
  checkKeyOrder,
  checkSendOrder,
  checkLost,
  checkPositions,
  checkDense,
  checkRouting,
  checkSessions,
  checkStarts,
  checkDirty,
  checkAgreement,
  checkEnds,
  checkUnseen,
  checkDeleted,
  checkLives,
  checkHighWatermarks,
  checkStartBounds,
  checkReplicaOrder,
  checkReplicasAgree,
  checkWholeBatches,
]
/** Of one invariant; one cause often breaks thousands of records. */
const MOST_REPORTED = 5

export function checkHistory(history: History): readonly Violation[] {
  const index = new RecordIndex(history)
  const violations: Violation[] = []
  const counts = new Map<string, number>()
  for (const check of CHECKS) {
    for (const violation of check(index)) {
      const count = (counts.get(violation.invariant) ?? 0) + 1
      counts.set(violation.invariant, count)
      if (count <= MOST_REPORTED) violations.push(violation)
    }
  }
  return violations
}
