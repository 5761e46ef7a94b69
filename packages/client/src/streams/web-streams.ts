// Web streams: the same records, the same back-pressure, for everything that speaks ReadableStream and WritableStream.
import type { Observable } from 'rxjs'
import type { SendRecord } from '../producer.js'
import { type RecordSender, TopicWriter } from '../topic-writer.js'
import { iteratorOf, type ToAsyncIterableOptions } from './to-async-iterable.js'

/**
 * A subscription or a pipeline as a web stream. Nothing is read ahead: a record is asked for when a reader asks, and asking
 * finishes the one before. Cancelling ends the subscription; what ends the subscription errors the stream.
 * @param options for a pipeline, as of toAsyncIterable().
 */
export function toReadableStream<T>(
  source: Observable<T> | AsyncIterable<T>,
  options: ToAsyncIterableOptions = {},
): ReadableStream<T> {
  const iterator = iteratorOf(source, options)
  return new ReadableStream<T>(
    {
      async pull(controller) {
        const { done, value } = await iterator.next()
        if (done) controller.close()
        else controller.enqueue(value)
      },
      async cancel() {
        await iterator.return?.()
      },
    },
    { highWaterMark: 0 },
  )
}

/**
 * A producer as a web stream of `{ key, value, headers?, timestamp?, partition? }`. A write is done when there was room for
 * the record, `close()` when all are acknowledged; the producer stays open. A record that fails errors the stream. After
 * `abort()` nothing more is sent, and what was on its way goes on.
 */
export function toWritableStream<K, V>(producer: RecordSender<K, V>): WritableStream<SendRecord<K, V>> {
  let writer: TopicWriter<K, V>
  return new WritableStream<SendRecord<K, V>>({
    start(controller) {
      writer = new TopicWriter(producer, (error) => controller.error(error))
    },
    write: (record) => writer.write(record),
    close: () => writer.end(),
  })
}
