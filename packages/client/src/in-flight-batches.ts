// The batches of one partition that have a sequence and no outcome yet, in the order of their sequences, and the epoch
// that these sequences belong to.
//
// Invariant: sequences of an epoch are given out in order, one a batch, and a batch keeps its sequence through retries
// unless every attempt was refused before anything was appended. When an epoch ends, a batch with an attempt that might
// be in some log is given up as unknown; only the others get a sequence of the next epoch.
import type { PendingBatch } from './pending-batch.js'

export class InFlightBatches {
  #batches: PendingBatch[] = []
  #epoch = 0
  #nextSequence = 0
  #hasGap = false

  get size(): number {
    return this.#batches.length
  }

  get all(): readonly PendingBatch[] {
    return this.#batches
  }

  get anyOnWire(): boolean {
    return this.#batches.some((batch) => batch.onWire)
  }

  /** The oldest batch that is to be sent again. */
  get again(): PendingBatch | undefined {
    return this.#batches.find((batch) => !batch.onWire)
  }

  /**
   * This epoch cannot go on: a sequence in it will never be filled, or the broker misses what stood before the oldest
   * batch, which was acknowledged.
   */
  get epochIsOver(): boolean {
    return this.#hasGap || this.#batches[0]?.missesEarlier === true
  }

  /** The epoch and sequence of the next batch, used up by this call. */
  nextIdentity(): { readonly epoch: number; readonly sequence: number } {
    return { epoch: this.#epoch, sequence: this.#nextSequence++ }
  }

  add(batch: PendingBatch): void {
    this.#batches.push(batch)
  }

  remove(batch: PendingBatch): void {
    if (this.#batches[0] === batch) this.#batches.shift()
    else this.#batches = this.#batches.filter((other) => other !== batch)
  }

  /** Ends a batch that was not acknowledged: those after it need another epoch. */
  giveUp(batch: PendingBatch): void {
    this.#hasGap = true
    this.remove(batch)
  }

  /**
   * The partition has another leader: what is on its way to the old one is not waited for. It may be in its log or
   * still get there, but what that leader had not committed counts for nothing unless the new one has it too; and the
   * new one knows an attempt that it has by its sequence.
   */
  abandonAttempts(): void {
    for (const batch of this.#batches) {
      if (batch.onWire) batch.ambiguous = true
      batch.onWire = false
      // What the old leader missed, the new one may have.
      batch.missesEarlier = false
    }
  }

  beginNextEpoch(): void {
    this.#epoch++
    this.#nextSequence = 0
    this.#hasGap = false
  }

  takeAll(): PendingBatch[] {
    const batches = this.#batches
    this.#batches = []
    return batches
  }
}
