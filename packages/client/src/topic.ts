// Topic tokens: a topic's name together with what its keys and values are, so that producer and consumer agree.
import { checkTopicName as check } from '@millrace/protocol'
import { toMillraceError } from './errors.js'
import type { Partitioner } from './partitioner.js'
import { bytes, type Serde } from './serde.js'

export interface Topic<K, V> {
  readonly name: string
  readonly key: Serde<K>
  readonly value: Serde<V>
  /** Where keys go, instead of by their murmur2. Every producer of the topic has to use the same one. */
  readonly partitioner?: Partitioner | undefined
}

/**
 * Declares a topic; it is created by `admin(mill).createTopic` or the command line, never by this.
 * @throws MillraceError INVALID_TOPIC_NAME.
 */
export function topic<K, V>(name: string, { key, value, partitioner }: Omit<Topic<K, V>, 'name'>): Topic<K, V> {
  checkTopicName(name)
  return { name, key, value, ...(partitioner && { partitioner }) }
}

/** A name as a topic of bytes. @throws MillraceError INVALID_TOPIC_NAME. */
export function bytesTopic(name: string): Topic<Uint8Array, Uint8Array> {
  return topic(name, { key: bytes, value: bytes })
}

/** @throws MillraceError INVALID_TOPIC_NAME. */
export function checkTopicName(name: string): void {
  try {
    check(name)
  } catch (cause) {
    throw toMillraceError(cause)
  }
}
