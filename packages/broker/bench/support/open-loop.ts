// Records at a fixed rate, whatever becomes of them: each carries the time it was due, so that waiting counts.
import type { Producer } from '@millrace/client'
import { stampDue, wallNowMs } from './drain-messages.js'
import { keyPool, payloadPool } from './payloads.js'

const KEYS = 1000

/** Resolves with the number of records sent. @throws when one of them could not be delivered. */
export async function openLoop(
  producer: Producer<Uint8Array, Uint8Array>,
  load: { readonly rate: number; readonly recordBytes: number; readonly seconds: number },
): Promise<number> {
  const values = payloadPool(load.recordBytes)
  const keys = keyPool(KEYS)
  const began = wallNowMs()
  const total = Math.max(1, Math.floor(load.rate * load.seconds))
  let sent = 0
  const sendDue = (now: number): void => {
    const due: { key: Uint8Array; value: Uint8Array }[] = []
    // A value is stamped anew only when its last turn was copied long ago.
    for (; sent < total && due.length < values.length; sent++) {
      const dueMs = began + (sent * 1000) / load.rate
      if (dueMs > now) break
      const value = values[sent % values.length]!
      stampDue(value, dueMs)
      due.push({ key: keys[sent % KEYS]!, value })
    }
    if (due.length > 0) producer.sendBatch(due).catch(() => {})
  }
  await new Promise<void>((resolve) => {
    const tick = (): void => {
      sendDue(wallNowMs())
      if (sent < total) setTimeout(tick, 1)
      else resolve()
    }
    tick()
  })
  await producer.flush()
  return sent
}
