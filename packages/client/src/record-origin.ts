// A record that was delivered, as the bytes it came in: what dead letters are made of, and where keyed work finds the key
// of a value that was mapped.
import type { RecordReader } from '@millrace/protocol'
import { ConsumerRecord } from './record.js'
import type { Origin } from './settlement.js'

export class RecordOrigin implements Origin {
  readonly #bytes: Uint8Array
  readonly #start: number
  readonly #end: number
  readonly #offsetDelta: number
  readonly #timestamp: number
  readonly #keyStart: number
  readonly #keyEnd: number
  readonly #valueStart: number
  readonly #valueEnd: number

  /** Remembers where `reader` stands, which goes on to other records. @param start where the record begins. */
  constructor(
    readonly topic: string,
    readonly partition: number,
    readonly offset: number,
    baseTimestamp: number,
    reader: RecordReader,
    start: number,
  ) {
    this.#bytes = reader.bytes
    this.#start = start
    this.#end = reader.recordEnd
    this.#offsetDelta = reader.offsetDelta
    this.#timestamp = baseTimestamp + reader.timestampDelta
    this.#keyStart = reader.keyStart
    this.#keyEnd = reader.keyEnd
    this.#valueStart = reader.valueStart
    this.#valueEnd = reader.valueEnd
  }

  get key(): Uint8Array | null {
    return this.#keyStart < 0 ? null : this.#bytes.subarray(this.#keyStart, this.#keyEnd)
  }

  get value(): Uint8Array | null {
    return this.#valueStart < 0 ? null : this.#bytes.subarray(this.#valueStart, this.#valueEnd)
  }

  records(): readonly ConsumerRecord<Uint8Array, Uint8Array>[] {
    return [this.record]
  }

  get record(): ConsumerRecord<Uint8Array, Uint8Array> {
    const source = { bytes: this.#bytes, start: this.#start, end: this.#end, offsetDelta: this.#offsetDelta }
    const { topic, partition, offset, key, value } = this
    return new ConsumerRecord(topic, partition, offset, this.#timestamp, key, value, source)
  }
}
