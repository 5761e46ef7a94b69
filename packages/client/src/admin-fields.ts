// Admin payloads: MessagePack maps, read with suspicion, since a broker of another version wrote them.
import { ADMIN_OPERATIONS, type AdminOperation, type AdminRequest } from '@millrace/protocol'
import { copyBytes } from './copy-bytes.js'
import { MillraceError } from './errors.js'
import { Packr } from './vendor/msgpackr.js'

export type AdminFields = Readonly<Record<string, unknown>>

const packer = new Packr({ useRecords: false, moreTypes: false, int64AsType: 'number', mapsAsObjects: true })

function encodeFields(fields: object): Uint8Array {
  // The packer goes on using its buffer: what is kept must be a copy.
  return copyBytes(packer.pack(fields))
}

/** @param mapVersion of the map that this client holds: a broker behind it catches up before it answers. */
export const adminMessage = (operation: AdminOperation, mapVersion: number, fields: object): AdminRequest => ({
  operation: ADMIN_OPERATIONS[operation],
  mapVersion,
  payload: encodeFields(fields),
})

/** @throws MillraceError CORRUPT_FRAME for anything but a map. */
export function decodeFields(bytes: Uint8Array): AdminFields {
  let value: unknown
  try {
    value = packer.unpack(bytes)
  } catch (cause) {
    throw corrupt('it is not MessagePack', cause)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt('it is no map')
  return value as AdminFields
}

export function number(fields: AdminFields, name: string): number {
  const value = field(fields, name)
  if (typeof value !== 'number' || !Number.isFinite(value)) throw corrupt(`${name} is no number`)
  return value
}

export function numberOrNull(fields: AdminFields, name: string): number | null {
  return field(fields, name) == null ? null : number(fields, name)
}

export function text(fields: AdminFields, name: string): string {
  const value = field(fields, name)
  if (typeof value !== 'string') throw corrupt(`${name} is no text`)
  return value
}

export function flag(fields: AdminFields, name: string): boolean {
  const value = field(fields, name)
  if (typeof value !== 'boolean') throw corrupt(`${name} is neither true nor false`)
  return value
}

/** An entry of a list, or a field, that is a map itself. */
export function map(value: unknown): AdminFields {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) throw corrupt('a map is missing in it')
  return value as AdminFields
}

export function choice<T extends string>(fields: AdminFields, name: string, choices: readonly T[]): T {
  const value = text(fields, name)
  const found = choices.find((candidate) => candidate === value)
  if (found === undefined) throw corrupt(`${name} is ${value}, not one of ${choices.join(', ')}`)
  return found
}

export function list<T>(fields: AdminFields, name: string, read: (value: unknown) => T): readonly T[] {
  const value = field(fields, name)
  if (!Array.isArray(value)) throw corrupt(`${name} is no list`)
  return value.map(read)
}

const field = (fields: AdminFields, name: string): unknown => fields[name]

const corrupt = (detail: string, cause?: unknown): MillraceError =>
  new MillraceError('ERR_MILLRACE_CORRUPT_FRAME', `the answer of the broker cannot be read: ${detail}`, { cause })
