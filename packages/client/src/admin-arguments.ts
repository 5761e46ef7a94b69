// What callers of administration give, checked.
import type { AlterTopicOptions, CreateTopicOptions, TopicRetention } from './admin-types.js'
import { integer } from './options.js'

/** A limit that was given, checked. @throws MillraceError INVALID_ARGUMENT. */
export function limit(name: keyof TopicRetention, options: CreateTopicOptions): Partial<TopicRetention> {
  const value = options[name] ?? null
  return value === null ? {} : { [name]: integer(name, value, 1, Number.MAX_SAFE_INTEGER) }
}

/** The same where null takes a limit away. @throws MillraceError INVALID_ARGUMENT. */
export function newLimit(name: keyof TopicRetention, options: AlterTopicOptions): Partial<TopicRetention> {
  const value = options[name]
  if (value === undefined) return {}
  return { [name]: value === null ? null : integer(name, value, 1, Number.MAX_SAFE_INTEGER) }
}

export const nodeOf = (nodeId: number): number => integer('nodeId', nodeId, 1, 0xffff_ffff)
export const partitionOf = (partition: number): number => integer('partition', partition, 0, Number.MAX_SAFE_INTEGER)
