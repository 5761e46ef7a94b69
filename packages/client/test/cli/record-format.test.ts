// The text of a consumed record: formats, escapes, bytes that are no text, and JSON.
import { describe, expect, it } from 'vitest'
import { compileFormat, formatJson, type PrintableRecord } from '#src/cli/record-format.js'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const record: PrintableRecord = {
  topic: 'orders',
  partition: 3,
  offset: 41,
  timestamp: 1_700_000_000_123,
  key: bytes('a'),
  value: bytes('one ü'),
  headers: [
    ['trace', bytes('x1')],
    ['none', null],
  ],
}
const nothing: PrintableRecord = { ...record, key: null, value: null, headers: [] }
const asText = (latin1: string): string => Buffer.from(latin1, 'latin1').toString('utf8')

describe('a format', () => {
  it('has every field', () => {
    const format = compileFormat('%t|%p|%o|%T|%k|%v|%h|%K|%V|%%\\n\\t\\\\é')
    expect(asText(format(record))).toBe('orders|3|41|1700000000123|a|one ü|trace=x1,none=|1|6|%\n\t\\é')
    expect(asText(format(nothing))).toBe('orders|3|41|1700000000123||||-1|-1|%\n\t\\é')
  })

  it('passes bytes through that are no text', () => {
    const value = Uint8Array.of(0, 255, 10, 128)
    expect(Buffer.from(compileFormat('%v')({ ...record, value }), 'latin1')).toEqual(Buffer.from(value))
  })

  it.each(['%x', '%', '\\q', '\\'])('%j is refused', (format) => {
    expect(() => compileFormat(format)).toThrow(/known are/)
  })
})

describe('JSON', () => {
  it('is one line with text as text', () => {
    const line = asText(formatJson(record))
    expect(line.endsWith('\n')).toBe(true)
    expect(JSON.parse(line)).toEqual({
      topic: 'orders',
      partition: 3,
      offset: 41,
      timestamp: 1_700_000_000_123,
      key: 'a',
      value: 'one ü',
      headers: [
        ['trace', 'x1'],
        ['none', null],
      ],
    })
    expect(JSON.parse(asText(formatJson(nothing)))).toMatchObject({ key: null, value: null, headers: [] })
  })

  it('says where it uses Base64', () => {
    const odd = Uint8Array.of(255, 254)
    const json = JSON.parse(asText(formatJson({ ...record, key: odd, value: odd, headers: [['h', odd]] })))
    expect(json).toMatchObject({ key: '//4=', keyEncoding: 'base64', value: '//4=', valueEncoding: 'base64' })
    expect(json.headers).toEqual([['h', '//4=', 'base64']])
  })
})
