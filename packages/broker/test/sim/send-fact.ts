// Sends as the histories of the checker's tests are made of.
import type { SendFact } from '../../sim/checker/history.js'

/** An acknowledged send of record `recordId` at partition 0, offset `recordId`; changed as a test needs it. */
export function send(recordId: number, changes: Partial<SendFact> = {}): SendFact {
  return {
    recordId,
    topic: 'orders',
    key: 'k',
    producer: 'p',
    order: recordId,
    digest: `d${recordId}`,
    acks: 'all',
    invokedAtMs: recordId,
    outcome: 'acknowledged',
    settledAtMs: recordId + 0.5,
    position: { partition: 0, offset: recordId },
    ...changes,
  }
}
