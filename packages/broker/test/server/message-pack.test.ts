// MessagePack from strangers: what one of them sends means nothing for the next.
import { describe, expect, it } from 'vitest'
import { decodeFields, decodeMessagePack, encodeMessagePack } from '#src/message-pack.js'

describe('MessagePack', () => {
  it('comes back as it was', () => {
    const value = { name: 'flights', partitions: 6, codecs: ['none', 'gzip'], nested: { yes: true, none: null } }
    expect(decodeFields(encodeMessagePack(value))).toEqual(value)
    expect(decodeFields(new Uint8Array(0))).toEqual({})
  })

  it('is a copy that later values do not change', () => {
    const first = encodeMessagePack({ a: 1 })
    const before = first.slice()
    encodeMessagePack({ b: 2, c: 'x'.repeat(100) })
    expect(first).toEqual(before)
  })

  it('with a definition of records changes no number of the next', () => {
    // fixext1 of type 0x72 defines the record 0x41 with the fields that follow; 0x41 is also the number 65.
    const definition = Uint8Array.of(0xd4, 0x72, 0x41, 0x91, 0xa1, 0x61, 0x05)
    try {
      decodeMessagePack(definition)
    } catch {
      // Refused is as good as forgotten.
    }
    expect(decodeMessagePack(Uint8Array.of(0x41))).toBe(65)
  })

  it('does not reach the prototype of all objects', () => {
    const hostile = Uint8Array.of(0x81, 0xa9, ...new TextEncoder().encode('__proto__'), 0x81, 0xa1, 0x78, 0x01)
    try {
      decodeFields(hostile)
    } catch {
      // Refused is as good as harmless.
    }
    expect('x' in {}).toBe(false)
  })
})
