// What a topic of Kafka is told for each kind of acknowledgement; the rest are the broker's defaults.
import type { Durability } from '../contestant.js'

/** `flush.messages=1`: the log is flushed to the disk with each batch that is appended, before it is acknowledged. */
export const topicSettings = (durability: Durability): { name: string; value: string }[] =>
  durability === 'flushed' ? [{ name: 'flush.messages', value: '1' }] : []
