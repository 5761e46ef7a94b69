// Batches in the log whose producers wait: for the commit, or for this node alone.
import { Fifo } from '../fifo.js'
import type { PendingBatch, Refusal } from './pending-batch.js'

export class Acknowledgements {
  /** By index, ascending. */
  readonly #untilCommitted = new Fifo<PendingBatch>()
  readonly #untilDurable = new Fifo<PendingBatch>()
  /** Retries of batches that are not settled yet, in no order. */
  #duplicates: PendingBatch[] = []

  get length(): number {
    return this.#untilCommitted.length + this.#untilDurable.length + this.#duplicates.length
  }

  /** A batch was appended, behind all others. */
  add(batch: PendingBatch): void {
    if (batch.sink.acks === 'leader') this.#untilDurable.push(batch)
    else this.#untilCommitted.push(batch)
  }

  /** A retry of a batch that is in the log; it is acknowledged once that one is committed, whatever it asks for. */
  addDuplicate(batch: PendingBatch): void {
    this.#duplicates.push(batch)
  }

  committed(index: number): void {
    settleUpTo(this.#untilCommitted, index)
    if (this.#duplicates.length === 0) return
    const due = this.#duplicates.filter((batch) => batch.index <= index)
    this.#duplicates = this.#duplicates.filter((batch) => batch.index > index)
    for (const batch of due) batch.sink.settled(batch, null)
  }

  /** Batches up to `index` are as durable on the leader as their topic wants it. */
  durable(index: number): void {
    settleUpTo(this.#untilDurable, index)
  }

  /** Nobody knows whether they will be committed. */
  fail(refusal: Refusal): void {
    const pending = [...this.#untilCommitted.drain(), ...this.#untilDurable.drain(), ...this.#duplicates]
    this.#duplicates = []
    for (const batch of pending) batch.sink.settled(batch, refusal)
  }
}

function settleUpTo(queue: Fifo<PendingBatch>, index: number): void {
  for (let batch = queue.peek(); batch !== undefined && batch.index <= index; batch = queue.peek()) {
    queue.shift()
    batch.sink.settled(batch, null)
  }
}
