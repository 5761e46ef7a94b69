// A batch as a consumer gets it from `batches()`: records are decoded when somebody looks at them, through one view that
// steps over them, or as objects of their own.
import { type BatchHeader, type RecordHeader, RecordReader } from '@millrace/protocol'
import { closedError, decodeError, toMillraceError } from './errors.js'
import { ConsumerRecord } from './record.js'
import type { Serde } from './serde.js'
import type { Origin } from './settlement.js'
import type { Topic } from './topic.js'

/** Where the records of a batch are. */
export interface BatchContent {
  readonly header: BatchHeader
  readonly baseOffset: number
  /** Decompressed; the records fill it from `start` on. */
  readonly bytes: Uint8Array
  readonly start: number
  readonly received: { readonly isReused: boolean }
}

/** Records of one partition that were sent together, or those of them that were asked for. */
export class RecordBatch<K, V> implements Iterable<ConsumerRecord<K, V>> {
  readonly topic: string
  readonly #topic: Topic<K, V>
  readonly #content: BatchContent
  #recordCount: number | null = null

  /** @internal */
  constructor(
    topic: Topic<K, V>,
    readonly partition: number,
    /** Of the first record. */
    readonly offset: number,
    /** Behind the last record. Some offsets between may be missing. */
    readonly endOffset: number,
    content: BatchContent,
  ) {
    this.topic = topic.name
    this.#topic = topic
    this.#content = content
  }

  /** @throws MillraceError INVALID_BATCH when the batch contradicts its format. */
  get recordCount(): number {
    this.#recordCount ??= this.#count()
    return this.#recordCount
  }

  #count(): number {
    const { header, baseOffset } = this.#content
    const isWhole = this.offset === baseOffset && this.endOffset === baseOffset + header.lastOffsetDelta + 1
    if (isWhole) return header.recordCount
    let count = 0
    for (const view = this.view(); view.next(); ) count++
    return count
  }

  /** One object that steps over all records, for as many walks as wanted: no object for each record. */
  view(): RecordView<K, V> {
    return new RecordView(this.#topic, this.partition, this.offset, this.endOffset, this.#content)
  }

  /**
   * Decodes record by record, an object each.
   * @throws MillraceError DESERIALIZATION, INVALID_BATCH.
   */
  *[Symbol.iterator](): IterableIterator<ConsumerRecord<K, V>> {
    for (const view = this.view(); view.next(); ) yield view.toRecord()
  }
}

/**
 * Stands on one record of a batch after the other. Key and value are decoded each time they are asked for; who wants neither
 * object nor view for a record reads them in `bytes`.
 */
export class RecordView<K, V> {
  readonly #topic: Topic<K, V>
  readonly #partition: number
  /** Offset deltas of the records asked for: from the first up to the second, which is not one of them. */
  readonly #firstDelta: number
  readonly #endDelta: number
  readonly #content: BatchContent
  readonly #reader: RecordReader
  #start: number
  #end: number

  /** @internal */
  constructor(topic: Topic<K, V>, partition: number, offset: number, endOffset: number, content: BatchContent) {
    this.#topic = topic
    this.#partition = partition
    this.#content = content
    const { header, baseOffset, bytes, start } = content
    this.#firstDelta = offset - baseOffset
    this.#endDelta = endOffset - baseOffset
    this.#reader = new RecordReader(bytes, start, bytes.length, header.recordCount, header.lastOffsetDelta, header)
    this.#start = start
    this.#end = start
  }

  /**
   * Steps to the next record; false behind the last.
   * @throws MillraceError INVALID_BATCH; CLOSED when the memory of the batch is used again.
   */
  next(): boolean {
    const reader = this.#reader
    try {
      if (this.#content.received.isReused) throw closedError('a batch whose memory is used again')
      while (reader.next()) {
        this.#start = this.#end
        this.#end = reader.recordEnd
        const { offsetDelta } = reader
        if (offsetDelta >= this.#endDelta) return false
        if (offsetDelta >= this.#firstDelta) return true
      }
      return false
    } catch (cause) {
      throw toMillraceError(cause, { topic: this.#topic.name, partition: this.#partition, offset: this.offset })
    }
  }

  /** The records of the batch, one behind the other, as the record format says; the same for all of them. */
  get bytes(): Uint8Array {
    return this.#content.bytes
  }

  /** Where the key begins in `bytes`; -1 for a record without a key. */
  get keyStart(): number {
    return this.#reader.keyStart
  }

  /** Where the key ends in `bytes`; -1 for a record without a key. */
  get keyEnd(): number {
    return this.#reader.keyEnd
  }

  /** Where the value begins in `bytes`; -1 for a tombstone. */
  get valueStart(): number {
    return this.#reader.valueStart
  }

  /** Where the value ends in `bytes`; -1 for a tombstone. */
  get valueEnd(): number {
    return this.#reader.valueEnd
  }

  get offset(): number {
    return this.#content.baseOffset + this.#reader.offsetDelta
  }

  /** Milliseconds since 1970, given by the sender. */
  get timestamp(): number {
    return this.#content.header.baseTimestamp + this.#reader.timestampDelta
  }

  /** A view of the key's bytes; null for a record without a key. */
  get keyBytes(): Uint8Array | null {
    return this.#reader.key()
  }

  /** A view of the value's bytes; null for a tombstone. */
  get valueBytes(): Uint8Array | null {
    return this.#reader.value()
  }

  /** @throws MillraceError DESERIALIZATION: here `onDecodeError` is not asked. */
  get key(): K | null {
    return this.#decode('key', this.#topic.key, this.keyBytes)
  }

  /** @throws MillraceError DESERIALIZATION: here `onDecodeError` is not asked. */
  get value(): V | null {
    return this.#decode('value', this.#topic.value, this.valueBytes)
  }

  /** The record as an object of its own. @throws MillraceError DESERIALIZATION. */
  toRecord(): ConsumerRecord<K, V> {
    return this.#record(this.key, this.value)
  }

  /** The record as bytes. */
  toRaw(): ConsumerRecord<Uint8Array, Uint8Array> {
    return this.#record(this.keyBytes, this.valueBytes)
  }

  /** Decoded each time. @throws MillraceError INVALID_BATCH. */
  get headers(): readonly RecordHeader[] {
    return this.toRaw().headers
  }

  #record<A, B>(key: A | null, value: B | null): ConsumerRecord<A, B> {
    const { bytes, offsetDelta, hasHeaders } = this.#reader
    const source = hasHeaders ? { bytes, start: this.#start, end: this.#end, offsetDelta } : null
    return new ConsumerRecord(this.#topic.name, this.#partition, this.offset, this.timestamp, key, value, source)
  }

  #decode<T>(what: 'key' | 'value', serde: Serde<T>, bytes: Uint8Array | null): T | null {
    if (bytes === null) return null
    try {
      return serde.decode(bytes)
    } catch (cause) {
      throw decodeError({ topic: this.#topic.name, partition: this.#partition, offset: this.offset }, what, cause)
    }
  }
}

/** What dead letters of a whole batch are made of. */
export class BatchOrigin implements Origin {
  readonly key = null

  constructor(readonly batch: RecordBatch<unknown, unknown>) {}

  records(): readonly ConsumerRecord<Uint8Array, Uint8Array>[] {
    const records: ConsumerRecord<Uint8Array, Uint8Array>[] = []
    for (const view = this.batch.view(); view.next(); ) records.push(view.toRaw())
    return records
  }
}
