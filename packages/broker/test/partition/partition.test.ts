// A partition: what it acknowledges, when, and what it refuses without changing anything.
import { BATCH_HEADER_BYTES, crc32, MAX_KEY_BYTES, PRODUCER_WINDOW_BATCHES } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { MAX_REFUSED_STARTS } from '#src/limits.js'
import { StorageError } from '#src/storage/log-store.js'
import { batchOf } from '../server/batches.js'
import { openPartition } from './fixture.js'

/** Changes a batch and makes its checksum right again. */
function forged(batch: Uint8Array, change: (view: DataView, bytes: Uint8Array) => void): Uint8Array {
  const bytes = batch.slice()
  const view = new DataView(bytes.buffer)
  change(view, bytes)
  view.setUint32(0, crc32(bytes.subarray(4), 0), true)
  return bytes
}

describe('acknowledgement', () => {
  it('waits for the flush where the topic is flushed', async () => {
    const { send, log, partition } = await openPartition()
    const outcome = send(0, {}, 3)
    expect(outcome).toMatchObject({ taken_: 1, code: 'pending' })
    log.complete('written')
    expect(outcome.code).toBe('pending')
    expect(partition.highWatermark).toBe(0)
    log.complete('flushed')
    expect(outcome).toMatchObject({ code: 'OK', baseOffset: 0, settledTimes: 1 })
    expect(partition.highWatermark).toBe(3)
  })

  it('waits for the write where the topic is buffered', async () => {
    const { send, log, partition } = await openPartition({ durability: 'buffered' })
    const outcome = send(0, {}, 3)
    expect(outcome.code).toBe('pending')
    log.complete('written')
    expect(outcome.code).toBe('OK')
    expect(partition.highWatermark).toBe(3)
  })

  it('covers exactly the batches that are committed', async () => {
    const { send, log, partition } = await openPartition()
    const outcomes = [0, 1, 2].map((sequence) => send(sequence, {}, 2))
    log.complete('flushed', 3)
    expect(outcomes.map(({ code }) => code)).toEqual(['OK', 'OK', 'pending'])
    expect(partition.highWatermark).toBe(4)
    log.complete()
    expect(outcomes[2]).toMatchObject({ code: 'OK', baseOffset: 4 })
  })

  it('never sets a time before an earlier one', async () => {
    const { send, log, clock } = await openPartition()
    const first = send(0)
    clock.wall -= 5_000
    const second = send(1)
    log.complete()
    expect(second.appendTime).toBe(first.appendTime)
  })

  it('tells followers of every commit, and of the end', async () => {
    const { send, log, partition } = await openPartition()
    let calls = 0
    const follower = { onCommit: () => calls++ }
    partition.follow(follower)
    send(0)
    expect(calls).toBe(0)
    log.complete()
    expect(calls).toBe(1)
    partition.close({ code: 'TOPIC_DELETED', detail: '' })
    expect(calls).toBe(2)
    partition.unfollow(follower)
  })
})

describe('a retry', () => {
  it('of an uncommitted batch is answered with its commit', async () => {
    const { send, log, metrics } = await openPartition()
    const original = send(0, {}, 2)
    const retry = send(0, {}, 2)
    expect([original.code, retry.code]).toEqual(['pending', 'pending'])
    expect(retry.taken_).toBe(1)
    log.complete()
    expect(retry).toMatchObject({ code: 'OK', baseOffset: 0, appendTime: original.appendTime, settledTimes: 1 })
    expect(log.filled.nextOffset).toBe(2)
    expect(metrics.duplicateBatches).toBe(1)
  })

  it('in the window gets the original offset', async () => {
    const { send, log } = await openPartition()
    for (let sequence = 0; sequence < PRODUCER_WINDOW_BATCHES; sequence++) send(sequence, {}, 2)
    log.complete()
    expect(send(0, {}, 2)).toMatchObject({ code: 'OK', baseOffset: 0 })
    expect(send(PRODUCER_WINDOW_BATCHES - 1, {}, 2)).toMatchObject({ baseOffset: 2 * (PRODUCER_WINDOW_BATCHES - 1) })
    expect(log.filled.index).toBe(PRODUCER_WINDOW_BATCHES + 1)
  })

  it('older than the window is acknowledged without an offset', async () => {
    const { send, log } = await openPartition()
    for (let sequence = 0; sequence <= PRODUCER_WINDOW_BATCHES; sequence++) send(sequence)
    const early = send(0)
    expect(early.code).toBe('pending')
    log.complete()
    expect(early).toMatchObject({ code: 'OK', baseOffset: null, appendTime: 0 })
    expect(send(0)).toMatchObject({ code: 'OK', baseOffset: null })
    expect(log.filled.index).toBe(PRODUCER_WINDOW_BATCHES + 2)
  })

  it('is recognised after a restart, from the log and from a checkpoint', async () => {
    for (const checkpoint of [false, true]) {
      const before = await openPartition({ flush: 'turn' })
      for (let sequence = 0; sequence < 3; sequence++) before.send(sequence, {}, 2)
      before.clock.turn()
      if (checkpoint) before.store.checkpoint()
      const after = await openPartition({ disk: before.store.disk, term: 2 })
      expect(after.send(1, {}, 2)).toMatchObject({ code: 'OK', baseOffset: 2 })
      const next = after.send(3)
      after.log.complete()
      expect(next).toMatchObject({ code: 'OK', baseOffset: 6 })
      expect(after.log.batches.at(-1)?.part.term).toBe(2)
    }
  })
})

describe('sequences', () => {
  it('with a gap are out of order', async () => {
    const { send } = await openPartition()
    send(0)
    expect(send(2)).toMatchObject({ code: 'OUT_OF_ORDER_SEQUENCE', taken_: 1, settledTimes: 1 })
    expect(send(1).code).toBe('pending')
  })

  it('of an unknown producer begin at 0', async () => {
    const { send, log } = await openPartition()
    expect(send(3).code).toBe('UNKNOWN_PRODUCER')
    expect(log.filled.index).toBe(1)
  })

  it('of a newer epoch begin at 0, and fence the older', async () => {
    const { send, log } = await openPartition()
    send(0)
    expect(send(1, { epoch: 1 }).code).toBe('OUT_OF_ORDER_SEQUENCE')
    expect(send(0, { epoch: 1 }).code).toBe('pending')
    expect(send(1).code).toBe('PRODUCER_FENCED')
    expect(log.filled.index).toBe(3)
  })

  it('are not believed in a damaged batch', async () => {
    const { sendBytes, send, log } = await openPartition()
    for (let sequence = 0; sequence < 3; sequence++) send(sequence)
    log.complete()
    for (const [at, value] of [
      [44, 1],
      [44, 9],
      [40, 5],
      [24, 77],
    ] as const) {
      const damaged = batchOf(1, { sequence: 3 }).slice()
      damaged[at] = value
      expect(sendBytes(damaged).code).toBe('CORRUPT_BATCH')
    }
    expect(log.filled.index).toBe(4)
  })

  it('wrap at 2^32', async () => {
    const { send, log, state } = await openPartition()
    send(0)
    const session = state.sessions.find([1, 2, 3, 4])!
    session.add(0xffff_fffe, 0, 1, 0)
    expect(send(0xffff_ffff).code).toBe('pending')
    expect(send(1).code).toBe('OUT_OF_ORDER_SEQUENCE')
    const wrapped = send(0)
    log.complete()
    expect(wrapped).toMatchObject({ code: 'OK', baseOffset: 2 })
    expect(send(0xffff_ffff)).toMatchObject({ code: 'OK', baseOffset: 1 })
  })

  it('after a refused start are early, not unknown', async () => {
    const { sendBytes, send, log } = await openPartition()
    const damaged = batchOf(1)
    damaged[damaged.length - 1]! ^= 1
    expect(sendBytes(damaged).code).toBe('CORRUPT_BATCH')
    expect(send(1).code).toBe('OUT_OF_ORDER_SEQUENCE')
    expect(send(0).code).toBe('pending')
    expect(send(1).code).toBe('pending')
    expect(log.filled.index).toBe(3)
  })

  it('after many refused starts are unknown again', async () => {
    const { send, log } = await openPartition()
    for (let i = 0; i <= MAX_REFUSED_STARTS; i++) {
      log.nextAppendError = new StorageError('DISK_FULL', 'no slot is left')
      expect(send(0, { producer: [i, 0, 0, 0] }).code).toBe('DISK_FULL')
    }
    expect(send(1, { producer: [0, 0, 0, 0] }).code).toBe('UNKNOWN_PRODUCER')
    expect(send(1, { producer: [1, 0, 0, 0] }).code).toBe('OUT_OF_ORDER_SEQUENCE')
  })
})

describe('a batch is refused and changes nothing', () => {
  const good = batchOf(3)
  const rising = batchOf([{ timestamp: 1000 }, { timestamp: 2000 }])
  const cases: [name: string, bytes: Uint8Array, code: string, length?: number][] = [
    ['when a record byte is damaged', flipped(good, good.length - 1), 'CORRUPT_BATCH'],
    ['when the checksum is damaged', flipped(good, 0), 'CORRUPT_BATCH'],
    ['when the magic is damaged', flipped(good, 8), 'CORRUPT_BATCH'],
    ['when the count is damaged', flipped(good, 48), 'CORRUPT_BATCH'],
    ['when the place is damaged', flipped(good, 16), 'CORRUPT_BATCH'],
    ['without its magic', forged(good, (view) => view.setUint16(8, 0, true)), 'INVALID_BATCH'],
    ['of an unknown version', forged(good, (view) => view.setUint8(10, 9)), 'INVALID_BATCH'],
    ['with an unknown codec', forged(good, (view) => view.setUint8(11, 9)), 'CODEC_NOT_ALLOWED'],
    ['for another topic', batchOf(3, { topicId: 2 }), 'INVALID_BATCH'],
    ['for another partition', batchOf(3, { partition: 1 }), 'INVALID_BATCH'],
    ['for another lane', batchOf(3, { lane: 1 }), 'INVALID_BATCH'],
    ['that claims to be control', batchOf(3, { control: true }), 'INVALID_BATCH'],
    ['with unknown attributes', forged(good, (view) => view.setUint16(22, 0x8000, true)), 'INVALID_BATCH'],
    ['with fewer records than it says', forged(good, (view) => counts(view, 4)), 'INVALID_BATCH'],
    [
      'with a last timestamp before its records',
      forged(rising, (view) => view.setUint32(72, view.getUint32(64, true), true)),
      'INVALID_BATCH',
    ],
    ['with more records than it says', forged(good, (view) => counts(view, 2)), 'INVALID_BATCH'],
    ['with no records', forged(good, (view) => view.setUint32(48, 0, true)), 'INVALID_BATCH'],
    ['with a hole in its offsets', forged(good, (view) => view.setUint32(52, 9, true)), 'INVALID_BATCH'],
    ['with a lying body size', forged(good, (view) => view.setUint32(60, 5, true)), 'INVALID_BATCH'],
    ['with a lying decoded size', forged(good, (view) => view.setUint32(56, 5, true)), 'INVALID_BATCH'],
    ['with a lying length', forged(good, (view) => view.setUint32(4, 90, true)), 'INVALID_BATCH'],
    ['with a length over the limit', forged(good, (view) => view.setUint32(4, 2 ** 30, true)), 'BATCH_TOO_LARGE'],
    [
      'with a damaged record',
      forged(good, (_view, bytes) => bytes.fill(0xff, BATCH_HEADER_BYTES + 1)),
      'INVALID_BATCH',
    ],
    ['longer than its frame says', good, 'INVALID_BATCH', good.length - 1],
  ]

  function flipped(batch: Uint8Array, at: number): Uint8Array {
    const bytes = batch.slice()
    bytes[at]! ^= 1
    return bytes
  }

  function counts(view: DataView, count: number): void {
    view.setUint32(48, count, true)
    view.setUint32(52, count - 1, true)
  }

  it.each(cases)('%s', async (...[_name, bytes, code, length]: (typeof cases)[number]) => {
    const { sendBytes, send, log, partition } = await openPartition()
    const refused = sendBytes(bytes, length === undefined ? {} : { length })
    // A batch cut short has a checksum that cannot hold either.
    expect(refused.code).toBe(length === undefined ? code : 'CORRUPT_BATCH')
    expect(refused).toMatchObject({ taken_: 1, settledTimes: 1, baseOffset: null })
    expect(log.filled).toEqual({ index: 1, nextOffset: 0, term: 1 })
    expect(partition.pendingBatches).toBe(0)
    const accepted = send(0)
    log.complete()
    expect(accepted).toMatchObject({ code: 'OK', baseOffset: 0 })
  })

  it('with a key over the limit', async () => {
    const { sendBytes, log } = await openPartition()
    const keyed = (length: number) => {
      // One record by hand, since the builder refuses it: length, attributes, two deltas, key length, key.
      const varint = (value: number) => [(value & 127) | 128, ((value >> 7) & 127) | 128, value >> 14]
      const record = [1, 0, 0, ...varint(length), ...new Array<number>(length).fill(7)]
      const batch = new Uint8Array(BATCH_HEADER_BYTES + 3 + record.length)
      batch.set(batchOf(1).subarray(0, BATCH_HEADER_BYTES))
      batch.set([...varint(record.length), ...record], BATCH_HEADER_BYTES)
      return forged(batch, (view) => {
        view.setUint32(4, batch.length, true)
        view.setUint32(56, batch.length - BATCH_HEADER_BYTES, true)
        view.setUint32(60, batch.length - BATCH_HEADER_BYTES, true)
      })
    }
    expect(sendBytes(keyed(MAX_KEY_BYTES + 1)).code).toBe('INVALID_BATCH')
    expect(log.filled.index).toBe(1)
    expect(sendBytes(keyed(MAX_KEY_BYTES)).code).toBe('pending')
  })

  it('whose codec the topic does not allow', async () => {
    const gzip = forged(good, (view) => view.setUint8(11, 1))
    const strict = await openPartition({ codecs: ['none'] })
    expect(strict.sendBytes(gzip).code).toBe('CODEC_NOT_ALLOWED')
    const open = await openPartition({ codecs: ['none', 'gzip'] })
    expect(open.sendBytes(gzip).code).toBe('pending')
  })
})

describe('a log without room', () => {
  it('makes batches wait in order', async () => {
    const { send, log } = await openPartition()
    log.full = true
    const outcomes = [0, 1, 2].map((sequence) => send(sequence))
    expect(outcomes.map(({ taken_ }) => taken_)).toEqual([0, 0, 0])
    log.makeRoom()
    expect(outcomes.map(({ taken_ }) => taken_)).toEqual([1, 1, 1])
    log.complete()
    expect(outcomes.map(({ baseOffset }) => baseOffset)).toEqual([0, 1, 2])
  })

  it('keeps them no longer than their deadline', async () => {
    const { sendBytes, send, log, clock, partition } = await openPartition()
    log.full = true
    const hurried = sendBytes(batchOf(1), { expiresAtMs: clock.nowMs + 100 })
    const patient = send(1)
    clock.nowMs += 200
    expect(partition.hasWaiting).toBe(true)
    partition.dropExpired()
    expect(hurried).toMatchObject({ code: 'DEADLINE_EXCEEDED', taken_: 1 })
    expect(patient.code).toBe('pending')
    log.makeRoom()
    expect(patient.code).toBe('OUT_OF_ORDER_SEQUENCE')
    expect(log.filled.index).toBe(1)
  })

  it('does not append what came too late', async () => {
    const { sendBytes, log, clock } = await openPartition()
    expect(sendBytes(batchOf(1), { expiresAtMs: clock.nowMs - 1 }).code).toBe('DEADLINE_EXCEEDED')
    expect(log.filled.index).toBe(1)
  })
})

describe('a failure', () => {
  it('of the disk refuses everything on its way and to come', async () => {
    const { send, log } = await openPartition()
    const appended = send(0)
    const duplicate = send(0)
    log.full = true
    const waiting = send(1)
    log.fail()
    expect([appended, duplicate, waiting].map(({ code }) => code)).toEqual(Array(3).fill('STORAGE_FAILED'))
    expect([appended, duplicate, waiting].map(({ settledTimes }) => settledTimes)).toEqual([1, 1, 1])
    expect([appended, duplicate, waiting].map(({ taken_ }) => taken_)).toEqual([1, 1, 1])
    log.full = false
    expect(send(1).code).toBe('STORAGE_FAILED')
  })

  it.each(['DISK_FULL', 'STORAGE_FAILED', 'DAMAGED'] as const)('%s of an append is told by its name', async (code) => {
    const { send, log } = await openPartition()
    log.nextAppendError = new StorageError(code, 'told by the test')
    expect(send(0)).toMatchObject({ code, taken_: 1 })
    const after = send(0)
    log.complete()
    expect(after).toMatchObject({ code: 'OK', baseOffset: 0 })
  })

  it('that is a bug is not taken for a refusal', async () => {
    const { send, log } = await openPartition()
    log.append = () => {
      throw new TypeError('planted')
    }
    expect(() => send(0)).toThrow('planted')
  })
})

describe('a closed partition', () => {
  it('refuses what is pending and what comes, and reads nothing', async () => {
    const { send, partition, log } = await openPartition()
    const pending = send(0)
    partition.close({ code: 'TOPIC_DELETED', detail: 'gone' })
    partition.close({ code: 'SHUTTING_DOWN', detail: '' })
    expect(pending).toMatchObject({ code: 'TOPIC_DELETED', settledTimes: 1 })
    expect(send(1).code).toBe('TOPIC_DELETED')
    expect(() => partition.read(0, 100)).toThrow('gone')
    log.complete()
    expect(pending.settledTimes).toBe(1)
  })
})
