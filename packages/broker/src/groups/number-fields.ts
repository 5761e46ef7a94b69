// Reading the numbers of commands and images with suspicion: another version, or damage, may have written them.
import { count, wrong } from '../fields.js'
import type { Fields } from '../message-pack.js'
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
