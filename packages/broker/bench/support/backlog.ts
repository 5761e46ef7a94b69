// Fills topics with records for readers to find.
import { bytes, topic } from '@millrace/client'
import { keyPool, payloadPool } from './payloads.js'
import type { Session } from './session.js'

const RECORDS_PER_CALL = 1000

export interface Backlog {
  readonly topic: string
  readonly partitions: number
  readonly recordBytes: number
  /** Different keys; records have none with 0. */
  readonly keys: number
}

/** Makes the topic, buffered, and resolves when so many records are acknowledged, or some more: whole calls. */
export async function fill(session: Session, backlog: Backlog, records: number): Promise<void> {
  await session.createTopic(backlog.topic, backlog.partitions, 'buffered')
  const producer = session.mill.producer(topic(backlog.topic, { key: bytes, value: bytes }))
  const values = payloadPool(backlog.recordBytes)
  const keys = keyPool(backlog.keys)
  for (let sent = 0; sent < records; sent += RECORDS_PER_CALL) {
    await producer.ready()
    const call = Array.from({ length: RECORDS_PER_CALL }, (_, i) => ({
      key: keys[i % keys.length] ?? null,
      value: values[(sent + i) % values.length]!,
    }))
    // close() below rejects for what was not delivered.
    producer.sendBatch(call).catch(() => {})
  }
  await producer.close({ timeoutMs: 60_000 })
}
