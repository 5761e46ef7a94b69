// Serdes and topic tokens.
import {
  bytes,
  type ConsumerRecord,
  json,
  MillraceError,
  type Producer,
  type Serde,
  type StandardSchemaV1,
  topic,
  utf8,
} from '@millrace/client'
import { describe, expect, expectTypeOf, test } from 'vitest'
import { Scratch } from '#src/scratch.js'
import { begin } from './support/setting.js'
import { wrong } from './support/wrong.js'

const roundTrip = <T>(serde: Serde<T>, value: T): T => serde.decode(new Uint8Array(serde.encode(value, new Scratch())))

describe('built-in serdes', () => {
  test.each([
    '',
    'a',
    'ascii of some length, above sixteen',
    'ünïcödé',
    '日本語',
    '😀'.repeat(40),
    'x'.repeat(100_000),
    '\u0000',
    '\ufeffbom',
  ])('utf8 %#', (text) => {
    expect(roundTrip(utf8, text)).toBe(text)
    expect(utf8.encode(text, new Scratch())).toEqual(new TextEncoder().encode(text))
  })

  test('many texts in one scratch do not disturb each other', () => {
    const scratch = new Scratch()
    const texts = Array.from({ length: 5_000 }, (_, i) => `text ${i} ${'é'.repeat(i % 50)}`)
    const encoded = texts.map((text) => scratch.text(text))
    expect(encoded.map((view) => new TextDecoder().decode(view))).toEqual(texts)
  })

  test('json and bytes', () => {
    expect(roundTrip(json<{ a: number[] }>(), { a: [1, 2] })).toEqual({ a: [1, 2] })
    expect(roundTrip(bytes, new Uint8Array([1, 2]))).toEqual(new Uint8Array([1, 2]))
  })

  test('values they cannot take are refused with a typed error', () => {
    const scratch = new Scratch()
    for (const encode of [
      () => utf8.encode(wrong<string>(5), scratch),
      () => bytes.encode(wrong<Uint8Array>('x'), scratch),
      () => json().encode(() => {}, scratch),
      () => json().encode(undefined, scratch),
    ]) {
      expect(encode).toThrow(MillraceError)
    }
    expect(() => utf8.decode(new Uint8Array([0xff]))).toThrow()
    expect(() => json().decode(new Uint8Array([0x7b]))).toThrow()
  })
})

describe('json(schema)', () => {
  const positive: StandardSchemaV1<{ n: number }> = {
    '~standard': {
      version: 1,
      vendor: 'test',
      validate: (value) => {
        const { n } = value as { n: unknown }
        if (typeof n === 'number' && n > 0) return { value: { n } }
        return { issues: [{ message: 'must be positive', path: ['n', { key: 0 }] }] }
      },
    },
  }

  test('validates in both directions', () => {
    const serde = json(positive)
    expectTypeOf(serde).toEqualTypeOf<Serde<{ n: number }>>()
    expect(roundTrip(serde, { n: 1 })).toEqual({ n: 1 })
    expect(() => serde.encode({ n: -1 }, new Scratch())).toThrow('n.0: must be positive')
    expect(() => serde.decode(new TextEncoder().encode('{"n":-1}'))).toThrow('must be positive')
  })

  test('an asynchronous schema is refused', () => {
    const slow: StandardSchemaV1<number> = {
      '~standard': { version: 1, vendor: 'test', validate: () => Promise.reject(new Error('later')) },
    }
    expect(() => json(slow).encode(1, new Scratch())).toThrow('asynchronously')
  })
})

describe('complaint 21: types wrong or missing', () => {
  test('carry their types', () => {
    const Orders = topic('orders', { key: utf8, value: json<{ total: number }>() })
    expectTypeOf(Orders.key).toEqualTypeOf<Serde<string>>()
    expectTypeOf(Orders.value).toEqualTypeOf<Serde<{ total: number }>>()
    expect(Orders.name).toBe('orders')
  })

  test('a record without a key and a tombstone are in the types, for those who send and those who read', () => {
    const Orders = topic('orders', { key: utf8, value: json<{ total: number }>() })
    type Sent = Parameters<Producer<string, { total: number }>['send']>
    expectTypeOf<Sent[0]>().toEqualTypeOf<string | null>()
    expectTypeOf<Sent[1]>().toEqualTypeOf<{ total: number } | null>()
    type Received = ConsumerRecord<string, { total: number }>
    expectTypeOf<Received['key']>().toEqualTypeOf<string | null>()
    expectTypeOf<Received['value']>().toEqualTypeOf<{ total: number } | null>()
    expectTypeOf<Received['offset']>().toEqualTypeOf<number>()
    expectTypeOf<ReturnType<Received['header']>>().toEqualTypeOf<Uint8Array | null | undefined>()
    // A schema gives its type by itself.
    const schema: StandardSchemaV1<number> = {
      '~standard': { version: 1, vendor: 'test', validate: (value) => ({ value: Number(value) }) },
    }
    expectTypeOf(json(schema).decode).returns.toEqualTypeOf<number>()
    expect(Orders.partitioner).toBeUndefined()
  })

  test('null, empty and present are three things on their way there and back', async () => {
    const { world, mill } = begin({ partitions: 1 })
    const Plain = topic('orders', { key: utf8, value: utf8 })
    const producer = mill.producer(Plain)
    const given = [null, '', 'x'].flatMap((key) => [null, '', 'y'].map((value) => ({ key, value })))
    await world.result(producer.sendBatch(given))
    const seen: { key: string | null; value: string | null }[] = []
    const loop = (async () => {
      for await (const { key, value } of mill.consumer().subscribe(Plain, { from: 'earliest', until: 'end' }))
        seen.push({ key, value })
    })()
    await world.result(loop)
    expect(seen).toEqual(given)
  })

  test.each(['', '.', '..', 'a/b', 'a b', 'ä', 'x'.repeat(250)])('%j is no name', (name) => {
    expect(() => topic(name, { key: utf8, value: utf8 })).toThrow(MillraceError)
  })
})
