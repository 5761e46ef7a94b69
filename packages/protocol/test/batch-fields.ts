// Takes a batch apart by its layout alone, in a second reading of docs/WIRE-FORMAT.md that shares no code with the
// package: notes for the golden bytes, and the records for comparing.
import type { Field } from './golden.js'
import { type SampleRecord, viewOf } from './samples.js'

/** Name and size in bytes, in order. */
type Layout = readonly (readonly [name: string, size: 1 | 2 | 4 | 8 | 16])[]

const LOG_PART: Layout = [
  ['checksum of the log part', 4],
  ['term', 4],
  ['base offset', 8],
  ['index', 8],
  ['append time', 8],
  ['length of the client part', 4],
  ['checksum of the client part', 4],
]

const CLIENT_PART: Layout = [
  ['checksum', 4],
  ['length', 4],
  ['magic', 2],
  ['version', 1],
  ['codec', 1],
  ['topic id', 4],
  ['partition', 4],
  ['lane', 2],
  ['attributes', 2],
  ['producer id', 16],
  ['epoch', 4],
  ['sequence', 4],
  ['record count', 4],
  ['last offset delta', 4],
  ['decoded size', 4],
  ['body size', 4],
  ['base timestamp', 8],
  ['last timestamp', 8],
]

function number(view: DataView, at: number, size: number): string {
  if (size === 1) return String(view.getUint8(at))
  if (size === 2) return String(view.getUint16(at, true))
  if (size === 4) return String(view.getUint32(at, true))
  return String(view.getBigUint64(at, true))
}

function layoutFields(bytes: Uint8Array, layout: Layout): Field[] {
  const view = viewOf(bytes)
  let at = 0
  return layout.map(([name, size]) => {
    const from = at
    at += size
    const value =
      size === 16
        ? ''
        : name.startsWith('checksum')
          ? ` 0x${view.getUint32(from, true).toString(16)}`
          : ` ${number(view, from, size)}`
    return { bytes: bytes.slice(from, at), note: `${name}${value}` }
  })
}

export const logPartFields = (bytes: Uint8Array): Field[] => layoutFields(bytes, LOG_PART)

/** Fields of a client part; records one by one when the body is not compressed. */
export function batchFields(batch: Uint8Array): Field[] {
  const body = batch.subarray(80)
  const header = layoutFields(batch, CLIENT_PART)
  if (batch[11] !== 0) return [...header, { bytes: body.slice(), note: 'body, compressed' }]
  return [
    ...header,
    ...splitRecords(body).map(({ bytes, record }, i) => ({ bytes, note: `record ${i}: ${show(record)}` })),
  ]
}

function show(record: ParsedRecord): string {
  const text = (bytes: Uint8Array | null) => (bytes === null ? 'null' : `${bytes.length} bytes`)
  const headers = record.headers === null ? '' : `, ${record.headers.length} headers`
  const deltas = `offset +${record.offsetDelta}, time ${record.timestampDelta >= 0 ? '+' : ''}${record.timestampDelta}`
  return `${deltas}, key ${text(record.key)}, value ${text(record.value)}${headers}`
}

export interface ParsedRecord {
  readonly offsetDelta: number
  readonly timestampDelta: number
  readonly key: Uint8Array | null
  readonly value: Uint8Array | null
  readonly headers: readonly (readonly [string, Uint8Array | null])[] | null
}

/** The records of an uncompressed body, with the bytes of each. */
export function splitRecords(body: Uint8Array): { bytes: Uint8Array; record: ParsedRecord }[] {
  const records: { bytes: Uint8Array; record: ParsedRecord }[] = []
  let at = 0
  const varint = (): number => {
    let value = 0n
    for (let shift = 0n; ; shift += 7n) {
      const byte = body[at++]!
      value |= BigInt(byte & 127) << shift
      if (byte < 128) return Number(value)
    }
  }
  const take = (length: number): Uint8Array => {
    at += length
    return body.slice(at - length, at)
  }
  while (at < body.length) {
    const from = at
    varint()
    const attributes = body[at++]!
    const offsetDelta = varint()
    const folded = varint()
    const timestampDelta = folded % 2 === 1 ? -(folded + 1) / 2 : folded / 2
    const key = attributes & 1 ? take(varint()) : null
    const value = attributes & 2 ? take(varint()) : null
    let headers: [string, Uint8Array | null][] | null = null
    if (attributes & 4) {
      headers = []
      for (let left = varint(); left > 0; left--) {
        const name = new TextDecoder().decode(take(varint()))
        const lengthPlusOne = varint()
        headers.push([name, lengthPlusOne === 0 ? null : take(lengthPlusOne - 1)])
      }
    }
    records.push({ bytes: body.slice(from, at), record: { offsetDelta, timestampDelta, key, value, headers } })
  }
  return records
}

/** Records as they were given, out of parsed ones. */
export function asSamples(records: readonly ParsedRecord[], baseTimestamp: number): SampleRecord[] {
  return records.map(({ key, value, headers, timestampDelta }) => ({
    key,
    value,
    ...(headers === null ? {} : { headers }),
    timestamp: baseTimestamp + timestampDelta,
  }))
}
