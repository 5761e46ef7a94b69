// The way of a record through the broker: topic, produce, cursor, over real frames.
import {
  BATCH_HEADER_BYTES,
  crc32,
  cursorBatches,
  cursorCredit,
  cursorOpen,
  cursorOpened,
  loggedBatches,
  RecordReader,
  readBatchHeader,
} from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { batchOf } from './batches.js'
import { RawClient } from './raw-client.js'
import { runBroker } from './running-broker.js'

const ROUTE = { routeVersion: { term: 1, placement: 0 }, lane: 0 }
const EARLIEST = { ...ROUTE, start: 'earliest', position: 0, lastTerm: 0 } as const

/** Values of all records in a list of batches, with their offsets. */
function recordsOf(bytes: Uint8Array): { offset: number; value: string }[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const found: { offset: number; value: string }[] = []
  for (const batch of loggedBatches(bytes, crc32)) {
    const header = readBatchHeader(view, batch.clientStart)
    const start = batch.clientStart + BATCH_HEADER_BYTES
    const records = new RecordReader(bytes, start, batch.end, header.recordCount, header.lastOffsetDelta)
    while (records.next()) {
      const value = new TextDecoder().decode(records.value() ?? new Uint8Array(0))
      found.push({ offset: batch.baseOffset + records.offsetDelta, value })
    }
  }
  return found
}

describe('a record', () => {
  it('is acknowledged with its offset and reaches a cursor', async () => {
    const { broker } = await runBroker()
    const client = await RawClient.open(broker.address)
    const topicId = await client.createTopic('flights', { partitions: 3 })
    const reply = await client.produce([batchOf(3), batchOf(2, { partition: 1 })])
    expect(reply.results.map(({ code, baseOffset }) => ({ code, baseOffset }))).toEqual([
      { code: 0, baseOffset: 0 },
      { code: 0, baseOffset: 0 },
    ])
    expect(reply.results[0]?.route).toEqual({ nodeId: 1, shard: 0, placement: 0, term: 1 })

    client.send(cursorOpen, { topicId, partition: 0, ...EARLIEST, credit: 1_000_000 }, 77)
    expect(await client.receiveMessage(cursorOpened, 77)).toMatchObject({ startOffset: 0, highWatermark: 3 })
    const first = await client.receiveMessage(cursorBatches, 77)
    expect(recordsOf(first.batches)).toEqual([0, 1, 2].map((i) => ({ offset: i, value: `value ${i}` })))

    await client.produce([batchOf([{ value: 'later' }], { sequence: 1 })])
    const second = await client.receiveMessage(cursorBatches, 77)
    expect(recordsOf(second.batches)).toEqual([{ offset: 3, value: 'later' }])
    expect(second.highWatermark).toBe(4)
  })

  it('waits for credit', async () => {
    const { broker } = await runBroker()
    const client = await RawClient.open(broker.address)
    const topicId = await client.createTopic('flights')
    for (let sequence = 0; sequence < 3; sequence++) await client.produce([batchOf(2, { sequence })])
    client.send(cursorOpen, { topicId, partition: 0, ...EARLIEST, credit: 1 }, 5)
    const first = await client.receiveMessage(cursorBatches, 5)
    expect(first.batchCount).toBe(1)
    await expect(client.receiveMessage(cursorBatches, 5, 50)).rejects.toThrow('nothing within')
    client.send(cursorCredit, { credit: 1_000 }, 5)
    const rest = await client.receiveMessage(cursorBatches, 5)
    expect(recordsOf(rest.batches).map(({ offset }) => offset)).toEqual([2, 3, 4, 5])
  })
})
