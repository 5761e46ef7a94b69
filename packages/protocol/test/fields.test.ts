// Reader and writer of fields, texts, variable-length integers and ids.
import {
  AssertionError,
  logIndex,
  MAX_STRING_BYTES,
  nodeId,
  offset,
  Reader,
  SeededRandom,
  term,
  topicId,
  Writer,
} from '@millrace/protocol'
import fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { decodeText, encodeText, isText } from '#src/text.js'
import {
  MAX_VARINT_BYTES,
  MAX_ZIGZAG_MAGNITUDE,
  unzigzag,
  VarintReader,
  varintBytes,
  writeVarint,
  zigzag,
} from '#src/varint.js'
import { codeOf } from './expect-error.js'
import { bytesOf, concat } from './samples.js'

const MAX = Number.MAX_SAFE_INTEGER

describe('writer and reader', () => {
  it('agree on every type, in little-endian order', () => {
    const writer = new Writer(1)
    writer.u8(0xfe).u16(0xfedc).u32(0xfedcba98).u64(MAX).u64OrNull(null).u64OrNull(7)
    writer.string('größe').uuid('00112233445566778899aabbccddeeff').bytes(bytesOf('end'))
    const reader = new Reader(writer.written())
    expect([reader.u8(), reader.u16(), reader.u32(), reader.u64()]).toEqual([0xfe, 0xfedc, 0xfedcba98, MAX])
    expect([reader.u64OrNull(), reader.u64OrNull()]).toEqual([null, 7])
    expect(reader.string()).toBe('größe')
    expect(reader.uuid()).toBe('00112233445566778899aabbccddeeff')
    expect(reader.position).toBe(writer.length - 3)
    expect(reader.bytes(reader.remaining)).toEqual(bytesOf('end'))
    expect([...writer.written().subarray(0, 7)]).toEqual([0xfe, 0xdc, 0xfe, 0x98, 0xba, 0xdc, 0xfe])
  })

  it('read from the middle of a larger buffer', () => {
    const memory = new Uint8Array(32).fill(0xff)
    memory.set([1, 2, 3, 4], 9)
    const reader = new Reader(memory.subarray(9, 13))
    expect(reader.u32()).toBe(0x04030201)
    expect(codeOf(() => reader.u8())).toBe('CORRUPT_FRAME')
  })

  it('refuse to write what does not fit its field', () => {
    const refused: ((writer: Writer) => unknown)[] = [
      (w) => w.u8(256),
      (w) => w.u8(-1),
      (w) => w.u16(0x10000),
      (w) => w.u16(0.5),
      (w) => w.u32(0x1_0000_0000),
      (w) => w.u32(Number.NaN),
      (w) => w.u64(MAX + 1),
      (w) => w.u64(-1),
      (w) => w.u64(1.5),
      (w) => w.u64OrNull(MAX + 1),
      (w) => w.string('x'.repeat(MAX_STRING_BYTES + 1)),
      (w) => w.uuid('0011'),
      (w) => w.uuid('A'.repeat(32)),
      (w) => w.fixed(() => w.bytes(new Uint8Array(0x10000))),
      (w) => w.u32(0).patchU32(0, -1),
    ]
    for (const write of refused) expect(() => write(new Writer()), String(write)).toThrow(AssertionError)
  })

  it('refuse to read what is not there', () => {
    const reads: ((reader: Reader) => unknown)[] = [
      (r) => r.u8(),
      (r) => r.u16(),
      (r) => r.u32(),
      (r) => r.u64(),
      (r) => r.u64OrNull(),
      (r) => r.bytes(1),
      (r) => r.string(),
      (r) => r.uuid(),
      (r) => r.fixed(() => 0),
      (r) => r.count(1, 1, 10),
      (r) => r.list(1, 1, 10, () => 0),
    ]
    for (const read of reads) {
      expect(
        codeOf(() => read(new Reader(new Uint8Array(0)))),
        String(read),
      ).toBe('CORRUPT_FRAME')
    }
  })

  it('refuse numbers of 2^53 and above', () => {
    const over = Uint8Array.of(0, 0, 0, 0, 0, 0, 0x20, 0)
    expect(codeOf(() => new Reader(over).u64())).toBe('CORRUPT_FRAME')
    expect(codeOf(() => new Reader(over).u64OrNull())).toBe('CORRUPT_FRAME')
    expect(codeOf(() => new Reader(new Uint8Array(8).fill(0xff)).u64())).toBe('CORRUPT_FRAME')
    expect(new Reader(Uint8Array.of(255, 255, 255, 255, 255, 255, 0x1f, 0)).u64()).toBe(MAX)
  })

  it('keep a fixed part to itself', () => {
    const writer = new Writer()
    writer.fixed(() => writer.u16(1)).u16(2)
    const reader = new Reader(writer.written())
    expect(
      codeOf(() => new Reader(writer.written()).fixed(() => reader.fixed(() => [reader.u16(), reader.u16()]))),
    ).toBe('CORRUPT_FRAME')
    const again = new Reader(writer.written())
    expect(again.fixed(() => again.u16())).toBe(1)
    expect(again.u16()).toBe(2)
  })

  it('write the same into memory used before', () => {
    const writer = new Writer(4).string('what stood here before').u64(MAX)
    const fresh = new Writer().string('').u16(7).string('é')
    writer.clear().string('').u16(7).string('é')
    expect(writer.length).toBe(fresh.length)
    expect(writer.written()).toEqual(fresh.written())
  })

  it('check a count against its limit and against the bytes that are there', () => {
    const reader = new Reader(new Uint8Array(40))
    expect(reader.count(10, 4, 10)).toBe(10)
    expect(codeOf(() => reader.count(11, 1, 10))).toBe('CORRUPT_FRAME')
    expect(codeOf(() => reader.count(11, 4, 100))).toBe('CORRUPT_FRAME')
    expect(codeOf(() => reader.count(0xffffffff, 0xffff))).toBe('CORRUPT_FRAME')
  })

  it('agree on any text', () => {
    fc.assert(
      fc.property(fc.string({ unit: 'binary', maxLength: 200 }), (text) => {
        expect(new Reader(new Writer().string(text).written()).string()).toBe(text)
      }),
    )
  })
})

describe('text', () => {
  it('keeps a byte order mark', () => {
    expect(decodeText(encodeText('\ufeffname'))).toBe('\ufeffname')
  })

  it('is recognised exactly as it is decoded', () => {
    // Bytes that are often almost UTF-8: starts, continuations and the borders of the table in Unicode 3.9.
    const bytes = [0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed, 0xee]
    const edge = fc.constantFrom(...bytes, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff)
    fc.assert(
      fc.property(fc.array(edge, { maxLength: 6 }), (list) => {
        const input = Uint8Array.from(list)
        let decodes = true
        try {
          decodeText(input)
        } catch {
          decodes = false
        }
        expect(isText(concat([bytesOf('ab'), input, bytesOf('c')]), 2, 2 + input.length)).toBe(decodes)
      }),
      { numRuns: 20_000 },
    )
  })
})

const safe = fc.oneof(
  fc.integer({ min: 0, max: 300 }),
  fc.maxSafeNat(),
  ...[7, 14, 21, 28, 31, 32, 35, 42, 49, 53].flatMap((bits) => [
    fc.constant(2 ** bits - 1),
    fc.constant(Math.min(2 ** bits, MAX)),
  ]),
)

describe('varints', () => {
  it('come back, in as many bytes as was said', () => {
    fc.assert(
      fc.property(safe, (value) => {
        const bytes = new Uint8Array(MAX_VARINT_BYTES + 2)
        const end = writeVarint(bytes, 1, value)
        expect(end - 1).toBe(varintBytes(value))
        const reader = new VarintReader(bytes, 1, end)
        expect(reader.next()).toBe(value)
        expect(reader.at).toBe(end)
        if (end > 2) expect(codeOf(() => new VarintReader(bytes, 1, end - 1).next())).toBe('INVALID_BATCH')
      }),
      { numRuns: 1000 },
    )
  })

  it('are refused above 2^53 - 1 and beyond eight bytes', () => {
    const over = Uint8Array.of(0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10)
    expect(codeOf(() => new VarintReader(over, 0, 8).next())).toBe('INVALID_BATCH')
    const largest = Uint8Array.of(0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x0f)
    expect(new VarintReader(largest, 0, 8).next()).toBe(MAX)
    expect(codeOf(() => new VarintReader(new Uint8Array(9).fill(0x80), 0, 9).next())).toBe('INVALID_BATCH')
    expect(codeOf(() => new VarintReader(new Uint8Array(4), 2, 2).next())).toBe('INVALID_BATCH')
  })

  it('fold signed numbers and unfold them', () => {
    expect([0, -1, 1, -2, 2].map(zigzag)).toEqual([0, 1, 2, 3, 4])
    const signed = fc
      .oneof(
        safe,
        safe.map((value) => -value),
      )
      .filter((value) => Math.abs(value) <= MAX_ZIGZAG_MAGNITUDE)
    fc.assert(
      fc.property(signed, (value) => {
        const folded = zigzag(value)
        expect(Number.isSafeInteger(folded) && folded >= 0).toBe(true)
        expect(unzigzag(folded)).toBe(value + 0)
      }),
      { numRuns: 1000 },
    )
  })
})

describe('ids', () => {
  it('take what fits and refuse the rest', () => {
    for (const make of [topicId, nodeId, term]) {
      expect(make(0xffffffff)).toBe(0xffffffff)
      for (const wrong of [-1, 0.5, 0x1_0000_0000, Number.NaN]) expect(() => make(wrong)).toThrow(AssertionError)
    }
    for (const make of [offset, logIndex]) {
      expect(make(MAX)).toBe(MAX)
      for (const wrong of [-1, 0.5, MAX + 1, Number.NaN]) expect(() => make(wrong)).toThrow(AssertionError)
    }
  })
})

describe('seeded random numbers', () => {
  it('repeat with their seed and differ without', () => {
    const series = (seed: number) => {
      const random = new SeededRandom(seed)
      return Array.from({ length: 8 }, () => random.u32())
    }
    expect(series(1)).toEqual(series(1))
    expect(series(1)).not.toEqual(series(2))
    expect(new Set(series(0)).size).toBe(8)
  })

  it('are what they were: a failing seed still replays', () => {
    const random = new SeededRandom(42)
    expect([random.u32(), random.u32(), random.below(1000), random.oneIn(2)]).toMatchInlineSnapshot(`
      [
        660444221,
        3652823732,
        18,
        true,
      ]
    `)
    expect([...random.bytes(4)]).toMatchInlineSnapshot(`
      [
        136,
        225,
        186,
        112,
      ]
    `)
  })

  it('are spread evenly', () => {
    const random = new SeededRandom(7)
    const counts = new Array<number>(10).fill(0)
    for (let i = 0; i < 100_000; i++) counts[random.below(10)]!++
    for (const count of counts) expect(Math.abs(count - 10_000)).toBeLessThan(500)
    let sum = 0
    for (let i = 0; i < 10_000; i++) sum += random.fraction()
    expect(Math.abs(sum / 10_000 - 0.5)).toBeLessThan(0.02)
  })
})
