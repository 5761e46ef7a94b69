// toTopic: the end of consume, process, produce. Records go to a topic in the order they come, and what they were made
// from is settled when they are acknowledged.
import type { OperatorFunction } from 'rxjs'
import type { Delivery } from '../delivery.js'
import type { SendRecord } from '../producer.js'
import { type RecordSender, sendRecord } from '../topic-writer.js'
import { concurrencyOf, type ProcessOptions, workOn } from './worker.js'

const DEFAULT_IN_FLIGHT = 10_000

/**
 * Sends each value, `{ key, value, headers?, timestamp?, partition? }`, and emits its delivery when it is acknowledged;
 * only then is the record that it was made from settled. Sends begin in the order of the values, up to `concurrency` of
 * them (default 10,000) are on their way, and while the producer's buffer is full nothing more is taken, so that the
 * broker is not read further. A consumed record may be given as it is: its key decides the partition it goes to.
 *
 * A send that fails ends the stream as a rejection in processEach() does. At least once: after a crash, what was sent and
 * not yet committed is sent again.
 */
export function toTopic<K, V>(
  producer: RecordSender<K, V>,
  options: ProcessOptions = {},
): OperatorFunction<SendRecord<K, V>, Delivery> {
  const scheduling = {
    operator: 'toTopic',
    concurrency: concurrencyOf('toTopic', { concurrency: DEFAULT_IN_FLIGHT, ...options }),
    laneOf: () => null,
    gate: () => producer.ready(),
  }
  return (source) => workOn(source, (record: SendRecord<K, V>) => sendRecord(producer, record), scheduling)
}
