// Writes a stream of records into a topic: no faster than there is room, and the end is reached when all are acknowledged.
import type { Delivery } from './delivery.js'
import { invalidArgument } from './errors.js'
import type { SendOptions, SendRecord } from './producer.js'
import { ConsumerRecord } from './record.js'

/** What records are sent with: a producer. */
export interface RecordSender<K, V> {
  ready(): Promise<void>
  send(key: K | null, value: V | null, options?: SendOptions): Promise<Delivery>
}

/** Sends one record. The partition of a record that was consumed says nothing about the topic it goes to. */
export function sendRecord<K, V>(sender: RecordSender<K, V>, record: SendRecord<K, V>): Promise<Delivery> {
  if (typeof record !== 'object' || record === null) {
    throw invalidArgument(`a record must be an object with key and value, got ${typeof record}`)
  }
  const { key, value, headers, timestamp } = record
  const partition = record instanceof ConsumerRecord ? undefined : record.partition
  return sender.send(key, value, {
    ...(headers !== undefined && { headers }),
    ...(timestamp !== undefined && { timestamp }),
    ...(partition !== undefined && { partition }),
  })
}

export class TopicWriter<K, V> {
  readonly #sender: RecordSender<K, V>
  /** Called once, with what made the first record fail. */
  readonly #onFailure: (error: unknown) => void
  #unacknowledged = 0
  #failure: { readonly error: unknown } | null = null
  #whenDone: (() => void) | null = null

  constructor(sender: RecordSender<K, V>, onFailure: (error: unknown) => void) {
    this.#sender = sender
    this.#onFailure = onFailure
  }

  /** Resolves when the record was taken, which is when there was room for it. */
  async write(record: SendRecord<K, V>): Promise<void> {
    await this.#sender.ready()
    if (this.#failure !== null) throw this.#failure.error
    const sent = sendRecord(this.#sender, record)
    this.#unacknowledged++
    sent.then(
      () => this.#settled(),
      (error: unknown) => {
        const isFirst = this.#failure === null
        this.#failure ??= { error }
        this.#settled()
        if (isFirst) this.#onFailure(error)
      },
    )
  }

  /** Resolves when every record written was acknowledged. @throws the first failure. */
  async end(): Promise<void> {
    if (this.#unacknowledged > 0) await new Promise<void>((resolve) => (this.#whenDone = resolve))
    if (this.#failure !== null) throw this.#failure.error
  }

  #settled(): void {
    if (--this.#unacknowledged === 0) this.#whenDone?.()
  }
}
