// Reading what commands and images have in common with suspicion: another version, or damage, may have written them.
import { count, text, textOrNull, wrong } from '../fields.js'
import type { Fields } from '../message-pack.js'
import { MAX_CLIENT_ID_LENGTH, MAX_NAME_LENGTH } from './group-limits.js'
import type { MemberId } from './group-types.js'

export const MAX_U32 = 0xffff_ffff
const MAX_U64 = 0xffff_ffff_ffff_ffffn

export function u32(fields: Fields, name: string): number {
  const value = count(fields, name)
  return value <= MAX_U32 ? value : wrong(name)
}

/** A u64. Writers in other languages make small ones short, which then are read as numbers. */
export function memberId(value: unknown): MemberId {
  const id = typeof value === 'number' && Number.isSafeInteger(value) ? BigInt(value) : value
  return typeof id === 'bigint' && id >= 0n && id <= MAX_U64 ? id : wrong('memberId')
}

/** Whole numbers from 0. */
export function numbers(fields: Fields, name: string): readonly number[] {
  const value: unknown = fields[name]
  return Array.isArray(value) && value.every(isCount) ? value : wrong(name)
}

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0
}

/** A flat list of numbers from 0, cut into rows of `width`; no more of them than `most`. */
export function rows(
  fields: Fields,
  name: string,
  width: number,
  most = Number.POSITIVE_INFINITY,
): readonly (readonly number[])[] {
  const flat = numbers(fields, name)
  if (flat.length % width !== 0 || flat.length > most * width) wrong(name)
  return Array.from({ length: flat.length / width }, (_, row) => flat.slice(row * width, (row + 1) * width))
}

/** What groups and members are called. */
export function nameText(fields: Fields, name: string): string {
  const value = text(fields, name)
  return value !== '' && value.length <= MAX_NAME_LENGTH ? value : wrong(name)
}

export function nameOrNull(fields: Fields, name: string): string | null {
  return textOrNull(fields, name) === null ? null : nameText(fields, name)
}

export function clientId(fields: Fields): string {
  const value = text(fields, 'clientId')
  return value.length <= MAX_CLIENT_ID_LENGTH ? value : wrong('clientId')
}
