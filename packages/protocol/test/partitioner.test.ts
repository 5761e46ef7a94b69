// The partitioner agrees with Kafka's Java client, so that migrated keys keep their partition.
import { AssertionError, murmur2, partitionOfKey } from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bytesOf } from './samples.js'

describe('murmur2', () => {
  // From Kafka's UtilsTest.testMurmur2 and the tests of other clients of it.
  const published: readonly (readonly [string, number])[] = [
    ['21', -973932308],
    ['foobar', -790332482],
    ['a-little-bit-long-string', -985981536],
    ['a-little-bit-longer-string', -1486304829],
    ['lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8', -58897971],
    ['abc', 479470107],
    ['', 275646681],
  ]
  for (const [key, hash] of published) it(JSON.stringify(key), () => expect(murmur2(bytesOf(key))).toBe(hash))

  it('bytes that are no text', () => {
    expect(murmur2(Uint8Array.of(12, 42, 56, 24, 109, 111))).toBe(274204207)
  })

  it('does not depend on where in memory the key stands', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 40 }), fc.nat(9), (key, at) => {
        const memory = new Uint8Array(key.length + 20).fill(0xaa)
        memory.set(key, at)
        expect(murmur2(memory.subarray(at, at + key.length))).toBe(murmur2(key))
      }),
    )
  })
})

describe('partitionOfKey', () => {
  it('takes the hash without its sign', () => {
    expect(partitionOfKey(bytesOf('21'), 10)).toBe((-973932308 & 0x7fffffff) % 10)
    expect(partitionOfKey(bytesOf('abc'), 7)).toBe(479470107 % 7)
  })

  it('is a partition of the topic, for any key', () => {
    fc.assert(
      fc.property(fc.uint8Array(), fc.integer({ min: 1, max: 10_000 }), (key, count) => {
        const partition = partitionOfKey(key, count)
        expect(Number.isInteger(partition) && partition >= 0 && partition < count).toBe(true)
      }),
    )
  })

  it('spreads keys over all partitions', () => {
    const counts = new Array<number>(6).fill(0)
    for (let i = 0; i < 6_000; i++) counts[partitionOfKey(bytesOf(`customer-${i}`), 6)]!++
    for (const count of counts) expect(count).toBeGreaterThan(800)
  })

  it('refuses a topic without partitions', () => {
    for (const count of [0, -1, 1.5, Number.NaN])
      expect(() => partitionOfKey(bytesOf('k'), count)).toThrow(AssertionError)
  })
})
