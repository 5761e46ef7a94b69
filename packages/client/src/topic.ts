// Topic tokens: a topic's name together with what its keys and values are, so that producer and consumer agree.
import { checkTopicName } from '@millrace/protocol'
import { toMillraceError } from './errors.js'
import { bytes, type Serde } from './serde.js'

export interface Topic<K, V> {
  readonly name: string
  readonly key: Serde<K>
  readonly value: Serde<V>
}

/**
 * Declares a topic; it is created by `admin(mill).createTopic` or the command line, never by this.
 * @throws MillraceError INVALID_TOPIC_NAME.
 */
export function topic<K, V>(name: string, serdes: { readonly key: Serde<K>; readonly value: Serde<V> }): Topic<K, V> {
  checkName(name)
  return { name, key: serdes.key, value: serdes.value }
}

/** A name as a topic of bytes. @throws MillraceError INVALID_TOPIC_NAME. */
export function bytesTopic(name: string): Topic<Uint8Array, Uint8Array> {
  return topic(name, { key: bytes, value: bytes })
}

function checkName(name: string): void {
  try {
    checkTopicName(name)
  } catch (cause) {
    throw toMillraceError(cause)
  }
}
