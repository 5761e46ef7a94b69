// Producer sessions as part of the replicated state: bounded, expired by append time, the same after a checkpoint.
import { type BatchHeader, Reader, SeededRandom, Writer } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { SESSION_EXPIRY_MS } from '#src/limits.js'
import { ProducerSessions } from '#src/partition/producer-sessions.js'

const header = (producer: BatchHeader['producer'], sequence: number, epoch = 0): BatchHeader => ({
  checksum: 0,
  length: 100,
  codec: 'none',
  topicId: 1,
  partition: 0,
  lane: 0,
  control: false,
  producer,
  epoch,
  sequence,
  recordCount: 1,
  lastOffsetDelta: 0,
  decodedBytes: 20,
  bodyBytes: 20,
  baseTimestamp: 0,
  lastTimestamp: 0,
})

function encoded(sessions: ProducerSessions): Uint8Array {
  const writer = new Writer()
  sessions.encode(writer)
  return writer.written().slice()
}

describe('producer sessions', () => {
  it('tell producers apart whose ids begin alike', () => {
    const sessions = new ProducerSessions()
    sessions.appended(header([7, 0, 0, 1], 0), 0, 1, 0)
    sessions.appended(header([7, 0, 0, 2], 0), 1, 2, 0)
    sessions.appended(header([7, 0, 0, 2], 1), 2, 3, 0)
    expect(sessions.judge(header([7, 0, 0, 1], 1))).toBe('append')
    expect(sessions.judge(header([7, 0, 0, 2], 2))).toBe('append')
    expect(sessions.judge(header([7, 0, 0, 3], 1))).toBe('unknownProducer')
  })

  it('forget the least recently used beyond their capacity', () => {
    const sessions = new ProducerSessions(2)
    sessions.appended(header([1, 0, 0, 0], 0), 0, 1, 0)
    sessions.appended(header([2, 0, 0, 0], 0), 1, 2, 0)
    sessions.appended(header([1, 0, 0, 0], 1), 2, 3, 0)
    sessions.appended(header([3, 0, 0, 0], 0), 3, 4, 0)
    expect(sessions.size).toBe(2)
    expect(sessions.find([2, 0, 0, 0])).toBeNull()
    expect(sessions.judge(header([1, 0, 0, 0], 2))).toBe('append')
  })

  it('expire by append time, not by a clock', () => {
    const sessions = new ProducerSessions()
    sessions.appended(header([1, 0, 0, 0], 0), 0, 1, 1_000)
    sessions.appended(header([2, 0, 0, 0], 0), 1, 2, 1_000 + SESSION_EXPIRY_MS)
    expect(sessions.size).toBe(2)
    sessions.appended(header([2, 0, 0, 0], 1), 2, 3, 1_001 + SESSION_EXPIRY_MS)
    expect(sessions.size).toBe(1)
    expect(sessions.judge(header([1, 0, 0, 0], 1))).toBe('unknownProducer')
  })

  it('are the same after a checkpoint as by replay, whatever happened', () => {
    const random = new SeededRandom(11)
    const replayed = new ProducerSessions(8)
    let restored = new ProducerSessions(8)
    let time = 0
    for (let index = 1; index <= 3_000; index++) {
      const producer: BatchHeader['producer'] = [random.below(3), random.below(4), 0, 0]
      const last = replayed.find(producer)
      const epoch = (last?.epoch ?? 0) + (random.oneIn(50) ? 1 : 0)
      const sequence = last === null || epoch !== last.epoch ? 0 : last.lastSequence + 1
      time += random.below(SESSION_EXPIRY_MS / 20)
      const batch = header(producer, sequence, epoch)
      replayed.appended(batch, index * 10, index, time)
      restored.appended(batch, index * 10, index, time)
      if (random.oneIn(20)) {
        const bytes = encoded(restored)
        restored = new ProducerSessions(8)
        restored.restore(new Reader(bytes))
      }
      if (Buffer.compare(encoded(restored), encoded(replayed)) !== 0) expect.fail(`different after batch ${index}`)
    }
    expect(replayed.size).toBeGreaterThan(3)
  })

  it('refuse a state they did not write', () => {
    const sessions = new ProducerSessions()
    sessions.appended(header([1, 0, 0, 0], 0), 0, 1, 0)
    const bytes = encoded(sessions)
    for (let length = 0; length < bytes.length; length++) {
      expect(() => new ProducerSessions().restore(new Reader(bytes.subarray(0, length)))).toThrow()
    }
    bytes[0]! ^= 0xff
    expect(() => new ProducerSessions().restore(new Reader(bytes))).toThrow('version')
  })
})
