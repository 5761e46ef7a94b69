// The public face for Node's streams: subscriptions as Readable, producers as Writable.
import { Readable, Writable } from 'node:stream'
import { invalidArgument } from '../errors.js'
import type { SendRecord } from '../producer.js'
import type { Observable } from '../streams/observe.js'
import { iteratorOf, type ToAsyncIterableOptions } from '../streams/to-async-iterable.js'
import { type RecordSender, TopicWriter } from '../topic-writer.js'

/**
 * A subscription or a pipeline as a Readable of objects. Nothing is read ahead: a record is asked for when the stream is
 * read, and asking finishes the one before. Behind it, a stream takes as many records as its `highWaterMark` allows before
 * it has worked on them; give it 1 where a record must be finished before it counts as such. Destroying it ends the
 * subscription; what ends the subscription destroys it with that error.
 * @param options for a pipeline, as of toAsyncIterable().
 */
export function toReadable<T>(
  source: Observable<T> | AsyncIterable<T>,
  options: ToAsyncIterableOptions = {},
): Readable {
  return new RecordReadable(iteratorOf(source, options))
}

class RecordReadable<T> extends Readable {
  readonly #iterator: AsyncIterator<T>

  constructor(iterator: AsyncIterator<T>) {
    super({ objectMode: true, highWaterMark: 0 })
    this.#iterator = iterator
  }

  override _read(): void {
    this.#iterator.next().then(
      ({ done, value }) => {
        if (done) this.push(null)
        else if (value === null) this.destroy(invalidArgument('null ends a Readable; map it to something else'))
        else this.push(value)
      },
      (error: Error) => this.destroy(error),
    )
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    const ended = this.#iterator.return?.() ?? Promise.resolve()
    ended.then(
      () => callback(error),
      (failure: Error) => callback(error ?? failure),
    )
  }
}

/**
 * A producer as a Writable of `{ key, value, headers?, timestamp?, partition? }`. `write` calls back when there was room for
 * the record, the stream finishes when all are acknowledged; the producer stays open. A record that fails destroys the
 * stream with its error. After `destroy()` nothing more is sent, and what was on its way goes on.
 */
export function toWritable<K, V>(producer: RecordSender<K, V>): Writable {
  return new RecordWritable(producer)
}

class RecordWritable<K, V> extends Writable {
  readonly #writer: TopicWriter<K, V>

  constructor(producer: RecordSender<K, V>) {
    super({ objectMode: true })
    this.#writer = new TopicWriter(producer, (error) => this.destroy(error as Error))
  }

  override _write(record: SendRecord<K, V>, _encoding: string, callback: (error?: Error | null) => void): void {
    this.#writer.write(record).then(() => callback(), callback)
  }

  override _final(callback: (error?: Error | null) => void): void {
    this.#writer.end().then(() => callback(), callback)
  }
}
