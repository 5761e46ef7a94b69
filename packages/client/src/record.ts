// A record as a consumer gets it.
import { type RecordHeader, RecordReader } from '@millrace/protocol'
import { copyBytes } from './copy-bytes.js'
import { toMillraceError } from './errors.js'

/** Where the headers of a record can be decoded from, once somebody asks for them. */
export interface RecordSource {
  readonly bytes: Uint8Array
  readonly start: number
  readonly end: number
  readonly offsetDelta: number
}

const NO_HEADERS: readonly RecordHeader[] = []

export class ConsumerRecord<K, V> {
  #source: RecordSource | null
  #headers: readonly RecordHeader[] | null = null

  /** @internal */
  constructor(
    readonly topic: string,
    readonly partition: number,
    /** Dense from 0 within its partition. */
    readonly offset: number,
    /** Milliseconds since 1970, given by the sender. */
    readonly timestamp: number,
    /** Null for a record without a key. */
    readonly key: K | null,
    /** Null for a tombstone. */
    readonly value: V | null,
    source: RecordSource | null,
  ) {
    this.#source = source
  }

  /**
   * In the order they were sent; decoded when first asked for.
   * @throws MillraceError INVALID_BATCH when they contradict the record format.
   */
  get headers(): readonly RecordHeader[] {
    if (this.#headers === null) this.#headers = this.#source === null ? NO_HEADERS : this.#decodeHeaders(this.#source)
    return this.#headers
  }

  #decodeHeaders({ bytes, start, end, offsetDelta }: RecordSource): readonly RecordHeader[] {
    try {
      const reader = new RecordReader(bytes, start, end, 1, offsetDelta)
      reader.next()
      return reader.headers()
    } catch (cause) {
      throw toMillraceError(cause, { topic: this.topic, partition: this.partition, offset: this.offset })
    }
  }

  /** The value of the first header of this name; undefined without one. */
  header(name: string): Uint8Array | null | undefined {
    return this.headers.find(([other]) => other === name)?.[1]
  }

  /** The same record with bytes of its own: keeping it does not keep its whole batch in memory. */
  copy(): ConsumerRecord<K, V> {
    const record = new ConsumerRecord(
      this.topic,
      this.partition,
      this.offset,
      this.timestamp,
      detach(this.key),
      detach(this.value),
      null,
    )
    record.#headers = this.headers.map(([name, value]): RecordHeader => [name, value && copyBytes(value)])
    return record
  }
}

function detach<T>(value: T | null): T | null {
  return value instanceof Uint8Array ? (copyBytes(value) as T & Uint8Array) : value
}
