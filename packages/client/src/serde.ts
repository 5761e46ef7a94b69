// Serdes: how keys and values become bytes and back. null never reaches one: it is "no key", or a tombstone.
import { MillraceError } from './errors.js'
import type { Scratch } from './scratch.js'
import type { SchemaIssue, StandardSchemaV1 } from './standard-schema.js'

export interface Serde<T> {
  /**
   * Encodes a value. The bytes are copied before `send` returns; until then they must stay as they are.
   * `scratch` offers room for text; ignore it if you have no use for it.
   */
  encode(value: T, scratch: Scratch): Uint8Array
  /** Decodes bytes that belong to the record; they never change. */
  decode(bytes: Uint8Array): T
}

const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

/** Bytes as they are. A received value is a view into its batch: `record.copy()` detaches it. */
export const bytes: Serde<Uint8Array> = {
  encode(value) {
    if (!(value instanceof Uint8Array)) throw refuse(`a Uint8Array is wanted, got ${typeof value}`)
    return value
  },
  decode: (encoded) => encoded,
}

/** Strings in UTF-8. Bytes that are not UTF-8 cannot be decoded. */
export const utf8: Serde<string> = {
  encode(value, scratch) {
    if (typeof value !== 'string') throw refuse(`a string is wanted, got ${typeof value}`)
    return scratch.text(value)
  },
  decode: (encoded) => decoder.decode(encoded),
}

/**
 * JSON. Without a schema the type is an unchecked cast; with one (Standard Schema v1: Zod, Valibot, ArkType …) every
 * value is validated before it is sent and after it was received.
 */
export function json<T>(schema?: StandardSchemaV1<T, T>): Serde<T> {
  if (schema === undefined) return { encode: encodeJson, decode: (encoded) => JSON.parse(decoder.decode(encoded)) as T }
  return {
    encode: (value, scratch) => encodeJson(validate(schema, value), scratch),
    decode: (encoded) => validate(schema, JSON.parse(decoder.decode(encoded))),
  }
}

function encodeJson(value: unknown, scratch: Scratch): Uint8Array {
  const text: string | undefined = JSON.stringify(value)
  if (text === undefined) throw refuse(`${typeof value} has no JSON`)
  return scratch.text(text)
}

function validate<T>(schema: StandardSchemaV1<T, T>, value: unknown): T {
  const result = schema['~standard'].validate(value)
  if (result instanceof Promise) {
    // Nobody awaits it; its failure must not end the process.
    result.catch(() => {})
    throw refuse('the schema validates asynchronously; only synchronous ones can be used')
  }
  if (result.issues !== undefined) throw refuse(result.issues.map(showIssue).join('; '))
  return result.value
}

function showIssue({ message, path }: SchemaIssue): string {
  if (path === undefined || path.length === 0) return message
  return `${path.map((part) => String(typeof part === 'object' ? part.key : part)).join('.')}: ${message}`
}

const refuse = (detail: string): MillraceError => new MillraceError('ERR_MILLRACE_SERIALIZATION', detail)
