// From a key to a partition. The rule is part of the protocol, so that every client in every language agrees.
import { assert } from './assert.js'

/** Partitioners a topic can have. `murmur2` is that of Kafka's Java client: migrated keys keep their partition. */
export const PARTITIONER_IDS = { murmur2: 1 } as const
export type PartitionerName = keyof typeof PARTITIONER_IDS

const M = 0x5bd1e995

/**
 * MurmurHash2, 32 bits, seed 0x9747b28c (Austin Appleby; as in Kafka's `Utils.murmur2`).
 * @returns a signed 32-bit integer.
 */
export function murmur2(key: Uint8Array): number {
  const length = key.length
  let h = 0x9747b28c ^ length
  const blocksEnd = length & ~3
  for (let i = 0; i < blocksEnd; i += 4) {
    let k = key[i]! | (key[i + 1]! << 8) | (key[i + 2]! << 16) | (key[i + 3]! << 24)
    k = Math.imul(k, M)
    k ^= k >>> 24
    h = Math.imul(h, M) ^ Math.imul(k, M)
  }
  const rest = length & 3
  if (rest === 3) h ^= key[blocksEnd + 2]! << 16
  if (rest >= 2) h ^= key[blocksEnd + 1]! << 8
  if (rest >= 1) h = Math.imul(h ^ key[blocksEnd]!, M)
  h ^= h >>> 13
  h = Math.imul(h, M)
  return h ^ (h >>> 15)
}

/**
 * The partition of a key, 0 to `partitionCount` - 1.
 * @throws AssertionError unless `partitionCount` is a whole number from 1.
 */
export function partitionOfKey(key: Uint8Array, partitionCount: number): number {
  assert(Number.isInteger(partitionCount) && partitionCount >= 1, 'a topic has partitions')
  return (murmur2(key) & 0x7fffffff) % partitionCount
}
