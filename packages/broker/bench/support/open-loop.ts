// Records at a fixed rate, whatever becomes of them: each carries the time it was due, so that waiting counts. Where the
// machine cannot keep up, the loop goes on and says how many records found no room and how late it was itself.
import { BufferFullError, DeliveryError, type Producer } from '@millrace/client'
import { stampDue, wallNowMs } from './drain-messages.js'
import { keyPool, payloadPool } from './payloads.js'

const KEYS = 1000

export interface OpenLoopFigures {
  /** Records that were acknowledged. */
  readonly sent: number
  /** Records that were due and found the producer's buffer full. */
  readonly notTaken: number
  /** How long after its time a record was handed to the producer at most, in milliseconds. */
  readonly lateMs: number
}

/** @throws DeliveryError when records that were taken could not be delivered. */
export async function openLoop(
  producer: Producer<Uint8Array, Uint8Array>,
  load: { readonly rate: number; readonly recordBytes: number; readonly seconds: number },
): Promise<OpenLoopFigures> {
  const values = payloadPool(load.recordBytes)
  const keys = keyPool(KEYS)
  const began = wallNowMs()
  const total = Math.max(1, Math.floor(load.rate * load.seconds))
  let given = 0
  let notTaken = 0
  let lateMs = 0
  const sendDue = (now: number): void => {
    const due: { key: Uint8Array; value: Uint8Array }[] = []
    lateMs = Math.max(lateMs, now - (began + (given * 1000) / load.rate))
    // A value is stamped anew only when its last turn was copied long ago.
    for (; given < total && due.length < values.length; given++) {
      const dueMs = began + (given * 1000) / load.rate
      if (dueMs > now) break
      const value = values[given % values.length]!
      stampDue(value, dueMs)
      due.push({ key: keys[given % KEYS]!, value })
    }
    if (due.length === 0) return
    producer.sendBatch(due).catch((error: unknown) => {
      if (error instanceof BufferFullError) notTaken += due.length
    })
  }
  await new Promise<void>((resolve) => {
    const tick = (): void => {
      sendDue(wallNowMs())
      if (given < total) setTimeout(tick, 1)
      else resolve()
    }
    tick()
  })
  // What was refused for lack of room counts as failed there too; more than that is a finding.
  await producer.flush().catch((error: unknown) => {
    const onlyRefused =
      error instanceof DeliveryError && error.unknownRecords === 0 && error.failedRecords === notTaken && notTaken > 0
    if (!onlyRefused) throw error
  })
  return { sent: given - notTaken, notTaken, lateMs: Math.round(lateMs) }
}
