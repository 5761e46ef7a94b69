// CRC-32 in JavaScript is CRC-32, whatever the length, the place in memory and the seed.
import { crc32 as zlibCrc32 } from 'node:zlib'
import { crc32 } from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { bytesOf } from './samples.js'

describe('crc32', () => {
  it('gives the published results', () => {
    expect(crc32(bytesOf('123456789'), 0)).toBe(0xcbf43926)
    expect(crc32(bytesOf(''), 0)).toBe(0)
    expect(crc32(bytesOf('a'), 0)).toBe(0xe8b7be43)
    expect(crc32(bytesOf('The quick brown fox jumps over the lazy dog'), 0)).toBe(0x414fa339)
    expect(crc32(new Uint8Array(32), 0)).toBe(0x190a55ad)
    expect(crc32(new Uint8Array(32).fill(0xff), 0)).toBe(0xff6cab0b)
  })

  it('equals zlib on any slice and seed', () => {
    fc.assert(
      fc.property(
        fc.uint8Array({ maxLength: 300 }),
        fc.nat(16),
        fc.integer({ min: 0, max: 0xffffffff }),
        (bytes, at, seed) => {
          const slice = bytes.subarray(Math.min(at, bytes.length))
          // Over no bytes zlib forgets the seed.
          expect(crc32(slice, seed)).toBe(slice.length === 0 ? seed : zlibCrc32(slice, seed))
        },
      ),
      { numRuns: 500 },
    )
  })

  it('can be continued at any byte', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 100 }), fc.nat(100), (bytes, cut) => {
        const first = crc32(bytes.subarray(0, cut), 0)
        expect(crc32(bytes.subarray(Math.min(cut, bytes.length)), first)).toBe(crc32(bytes, 0))
      }),
    )
  })
})
