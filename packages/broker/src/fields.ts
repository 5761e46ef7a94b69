// Reading MessagePack maps of metadata and of other brokers with suspicion: another version may have written them.
import { ProtocolError } from '@millrace/protocol'
import type { Fields } from './message-pack.js'

export function text(fields: Fields, name: string): string {
  const value = fields[name]
  return typeof value === 'string' ? value : wrong(name)
}

export function textOrNull(fields: Fields, name: string): string | null {
  return fields[name] == null ? null : text(fields, name)
}

/** A whole number from 0. */
export function count(fields: Fields, name: string): number {
  const value = fields[name]
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0 ? value : wrong(name)
}

/** The same, or null where the field is missing. */
export function numberOrNull(fields: Fields, name: string): number | null {
  return fields[name] == null ? null : count(fields, name)
}

export function flag(fields: Fields, name: string): boolean {
  const value = fields[name]
  return typeof value === 'boolean' ? value : wrong(name)
}

export function list<T>(fields: Fields, name: string, read: (value: unknown) => T): readonly T[] {
  const value = fields[name]
  return Array.isArray(value) ? value.map(read) : wrong(name)
}

/** Ids of nodes: at least one, each once. */
export function nodeList(value: unknown, name: string): readonly number[] {
  const isNode = (node: unknown): boolean => typeof node === 'number' && Number.isSafeInteger(node) && node > 0
  if (!Array.isArray(value) || value.length === 0 || !value.every(isNode)) return wrong(name)
  return new Set(value).size === value.length ? value : wrong(name)
}

/** @throws ProtocolError INVALID_REQUEST */
export function wrong(name: string): never {
  throw new ProtocolError('INVALID_REQUEST', `the field ${name} has the wrong type`)
}
