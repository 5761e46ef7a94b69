// Record headers, checked before they become bytes: what is no Uint8Array would else be copied as zeros.
import { encodeHeaders, type RecordHeader } from '@millrace/protocol'
import { MillraceError } from './errors.js'

/** Null for none. @throws MillraceError SERIALIZATION; ProtocolError BATCH_TOO_LARGE. */
export function encodeRecordHeaders(headers: readonly RecordHeader[] | undefined): Uint8Array | null {
  if (headers === undefined) return null
  if (!Array.isArray(headers)) throw refuse('headers are a list of [name, value]')
  if (headers.length === 0) return null
  for (const header of headers as readonly unknown[]) {
    if (!Array.isArray(header) || typeof header[0] !== 'string') throw refuse('a header is [name, value]')
    const value: unknown = header[1]
    if (value === null || value instanceof Uint8Array) continue
    throw refuse(`the value of header ${header[0]} must be a Uint8Array or null, got ${typeof value}`)
  }
  return encodeHeaders(headers)
}

const refuse = (detail: string): MillraceError =>
  new MillraceError('ERR_MILLRACE_SERIALIZATION', detail, { outcome: 'failed' })
