// What one consumed record looks like on standard output: a kcat-like format, or one JSON object a line.
// Everything is text in Latin-1, one character a byte, so that keys and values pass through as the bytes they are.
import { isUtf8 } from 'node:buffer'
import { UsageError } from './exit-codes.js'

export interface PrintableRecord {
  readonly topic: string
  readonly partition: number
  readonly offset: number
  /** Milliseconds since 1970. */
  readonly timestamp: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [name: string, value: Uint8Array | null])[]
}

/** @returns the record's bytes as Latin-1 text. */
export type RecordFormatter = (record: PrintableRecord) => string

export const DEFAULT_FORMAT = '%v\\n'

const FIELDS: Readonly<Record<string, RecordFormatter>> = {
  t: (record) => latin1(record.topic),
  p: (record) => String(record.partition),
  o: (record) => String(record.offset),
  T: (record) => String(record.timestamp),
  k: (record) => bytesAsLatin1(record.key),
  v: (record) => bytesAsLatin1(record.value),
  K: (record) => String(record.key === null ? -1 : record.key.length),
  V: (record) => String(record.value === null ? -1 : record.value.length),
  h: (record) => record.headers.map(([name, value]) => `${latin1(name)}=${bytesAsLatin1(value)}`).join(','),
}

const ESCAPES: Readonly<Record<string, string>> = { n: '\n', t: '\t', r: '\r', '0': '\0', '\\': '\\' }

/**
 * Reads a format: `%t` topic, `%p` partition, `%o` offset, `%T` timestamp in milliseconds, `%k` key, `%v` value,
 * `%K` and `%V` their lengths (-1 for null), `%h` headers, `%%` a percent sign, and `\n \t \r \0 \\`.
 * @throws UsageError for anything else behind `%` or `\`.
 */
export function compileFormat(format: string): RecordFormatter {
  const parts: RecordFormatter[] = []
  for (const [piece, field, escaped] of format.matchAll(/%(.?)|\\(.?)|[^%\\]+/gsu)) {
    if (field === '%') parts.push(() => '%')
    else if (field !== undefined) parts.push(FIELDS[field] ?? refuse(piece, '%t %p %o %k %v %T %h %K %V %%'))
    else {
      const text = escaped === undefined ? latin1(piece) : (ESCAPES[escaped] ?? refuse(piece, '\\n \\t \\r \\0 \\\\'))
      parts.push(() => text)
    }
  }
  return (record) => {
    let text = ''
    for (const part of parts) text += part(record)
    return text
  }
}

function refuse(piece: string, known: string): never {
  throw new UsageError(`the format has ${JSON.stringify(piece)}; known are ${known}`, 'consume')
}

/**
 * One JSON object and a line end. Keys and values that are not UTF-8 are Base64, and `keyEncoding` or `valueEncoding`
 * says so; a header is a [name, text or null] pair, and Base64 ones are listed as [name, text, "base64"].
 */
export const formatJson: RecordFormatter = (record) => {
  const key = textOrBase64(record.key)
  const value = textOrBase64(record.value)
  const json = {
    topic: record.topic,
    partition: record.partition,
    offset: record.offset,
    timestamp: record.timestamp,
    key: key.text,
    ...(key.isBase64 ? { keyEncoding: 'base64' } : {}),
    value: value.text,
    ...(value.isBase64 ? { valueEncoding: 'base64' } : {}),
    headers: record.headers.map(([name, bytes]) => {
      const { text, isBase64 } = textOrBase64(bytes)
      return isBase64 ? [name, text, 'base64'] : [name, text]
    }),
  }
  return latin1(`${JSON.stringify(json)}\n`)
}

function textOrBase64(bytes: Uint8Array | null): { text: string | null; isBase64: boolean } {
  if (bytes === null) return { text: null, isBase64: false }
  return isUtf8(bytes)
    ? { text: asBuffer(bytes).toString('utf8'), isBase64: false }
    : { text: asBuffer(bytes).toString('base64'), isBase64: true }
}

function bytesAsLatin1(bytes: Uint8Array | null): string {
  return bytes === null ? '' : asBuffer(bytes).toString('latin1')
}

function latin1(text: string): string {
  return Buffer.from(text, 'utf8').toString('latin1')
}

function asBuffer(bytes: Uint8Array): Buffer {
  return Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)
}
