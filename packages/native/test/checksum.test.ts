// CRC-32 by every method the CPU has, against zlib, over all alignments and lengths where folding changes its way.
import { crc32 } from 'node:zlib'
import { expect, it } from 'vitest'
import { Arena, checksum, checksumBytes } from '#src/arena.js'
import { binding } from '#src/binding.js'
import { describeNative } from './native-suite.js'

function noise(length: number): Uint8Array {
  const bytes = new Uint8Array(length)
  let state = 0x9e3779b9
  for (let i = 0; i < length; i++) {
    state = Math.imul(state ^ (state >>> 15), 0x85ebca6b) + 0x6d2b79f5
    bytes[i] = state >>> 24
  }
  return bytes
}

const LENGTHS = [...Array.from({ length: 80 }, (_, i) => i), 127, 128, 129, 255, 256, 257, 271, 272, 511, 512, 513]
LENGTHS.push(767, 768, 1000, 4095, 4096, 4097, 65_535, 65_536, 100_001)

describeNative('checksum', () => {
  it('knows the check value of the standard', () => {
    expect(checksumBytes(new TextEncoder().encode('123456789'), 0)).toBe(0xcbf43926)
    expect(checksumBytes(new Uint8Array(0), 0)).toBe(0)
    expect(checksumBytes(new Uint8Array(0), 0x12345678)).toBe(0x12345678)
  })

  it('agrees with zlib by every method', () => {
    const bytes = noise(100_100)
    for (const method of ['table', 'pclmul', 'vpclmul']) {
      if (binding().checksumBytesWith(method, bytes, 0) === undefined) continue
      for (const length of LENGTHS) {
        for (const begin of [0, 1, 7, 63]) {
          const part = bytes.subarray(begin, begin + length)
          expect(binding().checksumBytesWith(method, part, 0), `${method}, ${length} bytes`).toBe(crc32(part, 0))
          expect(binding().checksumBytesWith(method, part, 0xdeadbeef)).toBe(crc32(part, 0xdeadbeef))
        }
      }
    }
  })

  it('continues over parts', () => {
    const bytes = noise(10_000)
    for (const cut of [0, 1, 15, 16, 100, 256, 5000, 9999, 10_000]) {
      const first = checksumBytes(bytes.subarray(0, cut), 0)
      expect(checksumBytes(bytes.subarray(cut), first)).toBe(crc32(bytes))
    }
  })

  it('copies exactly what it sums', () => {
    const source = new Arena(262_144, null)
    const target = new Arena(262_144, null)
    const from = new Uint8Array(source.buffer)
    const to = new Uint8Array(target.buffer)
    from.set(noise(262_144))
    for (const length of LENGTHS) {
      for (const [targetOffset, sourceOffset] of [
        [0, 0],
        [3, 1],
        [64, 17],
        [4096, 8192],
      ] as const) {
        to.fill(0xee)
        const part = from.subarray(sourceOffset, sourceOffset + length)
        const sum = binding().copyWithChecksum(target.handle, targetOffset, source.handle, sourceOffset, length, 7)
        expect(sum).toBe(crc32(part, 7))
        expect(checksum(source, sourceOffset, length, 7)).toBe(sum)
        expect(Buffer.compare(to.subarray(targetOffset, targetOffset + length), part)).toBe(0)
        if (targetOffset > 0) expect(to[targetOffset - 1]).toBe(0xee)
        expect(to[targetOffset + length]).toBe(0xee)
      }
    }
    expect(source.close() && target.close()).toBe(true)
  })
})
