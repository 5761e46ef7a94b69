// What a partition remembers of one producer: its epoch and the last batches, so that a retry is recognised.
import { type BatchHeader, PRODUCER_WINDOW_BATCHES } from '@millrace/protocol'

const W = PRODUCER_WINDOW_BATCHES

export type ProducerId = BatchHeader['producer']

export function sameProducer(a: ProducerId, b: ProducerId): boolean {
  return a[0] === b[0] && a[1] === b[1] && a[2] === b[2] && a[3] === b[3]
}

/** Sequences wrap at 2^32: the distance is what counts, positive when `a` comes after `b`. */
export const sequenceDistance = (a: number, b: number): number => (a - b) | 0

/** Sessions of a partition form a list by last use, and a chain of those whose ids begin alike. */
export class ProducerSession {
  older: ProducerSession | null = null
  newer: ProducerSession | null = null
  nextAlike: ProducerSession | null = null
  lastSequence = 0
  lastAppendTime = 0
  /** Batches in the window: those with sequences lastSequence - count + 1 to lastSequence. */
  count = 0
  // Base offsets, then indexes, then append times; slot of a sequence: its remainder by the window's size. One array, since a
  // start makes sessions by the ten thousand.
  readonly #window = new Float64Array(3 * W)

  constructor(
    readonly producer: ProducerId,
    public epoch: number,
  ) {}

  /** Forgets the batches of the epoch before. */
  beginEpoch(epoch: number): void {
    this.epoch = epoch
    this.count = 0
  }

  add(sequence: number, baseOffset: number, index: number, appendTime: number): void {
    const slot = sequence % W
    this.#window[slot] = baseOffset
    this.#window[W + slot] = index
    this.#window[2 * W + slot] = appendTime
    this.lastSequence = sequence
    this.lastAppendTime = appendTime
    if (this.count < W) this.count++
  }

  /** Whether a sequence not above the last one is still in the window. */
  holds(sequence: number): boolean {
    return -sequenceDistance(sequence, this.lastSequence) < this.count
  }

  baseOffset(sequence: number): number {
    return this.#window[sequence % W]!
  }

  index(sequence: number): number {
    return this.#window[W + (sequence % W)]!
  }

  appendTime(sequence: number): number {
    return this.#window[2 * W + (sequence % W)]!
  }

  /** How many batches of the window lie at or before an index. */
  countUpTo(index: number): number {
    let count = this.count
    while (count > 0 && this.index((this.oldestSequence + count - 1) >>> 0) > index) count--
    return count
  }

  /** The oldest sequence in the window. */
  get oldestSequence(): number {
    return (this.lastSequence - this.count + 1) >>> 0
  }
}
