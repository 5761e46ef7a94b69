// What must hold of the bounds of a partition, whoever answers: they are registers that only go up, and linearizable.
import type { BoundsFact, Violation } from './history.js'
import { PartitionMap } from './partition-map.js'
import { nameOf } from './promises.js'
import type { RecordIndex } from './record-index.js'

/** Something that shows how far a log was committed, at a moment at which somebody knew it. */
interface Floor {
  readonly atMs: number
  readonly offset: number
  /** When the record that shows it was sent. */
  readonly sentAtMs: number
  readonly invariant: 'hwm-regress' | 'stale-bound'
  readonly shownBy: string
}

/**
 * An answer is at least what was known of the high watermark before it was asked for: by an answer before, by an
 * acknowledgement to `acks: 'all'`, by a delivery.
 */
export function* checkHighWatermarks(index: RecordIndex): Iterable<Violation> {
  const bounds = boundsByPartition(index)
  addFloors(index, bounds)
  for (const [topic, partition, { answers, floors: known }] of bounds.entries()) {
    known.sort((a, b) => a.atMs - b.atMs)
    let at = 0
    let highest: Floor | null = null
    for (const { askedAtMs, highWatermark } of answers) {
      for (; at < known.length && known[at]!.atMs < askedAtMs; at++) {
        const floor = known[at]!
        if (highest === null || floor.offset > highest.offset) highest = floor
      }
      if (highest === null || highWatermark >= highest.offset) continue
      if (index.promises.mayVanish(topic, highest.sentAtMs)) continue
      yield {
        invariant: highest.invariant,
        message: `${nameOf(topic, partition)}: asked at ${askedAtMs.toFixed(1)} ms the high watermark was said to be ${highWatermark}, and ${highest.shownBy} had shown ${highest.offset} before`,
      }
    }
  }
}

/** The start of a log never goes back, nor beyond the high watermark, nor up at all where nothing is to go. */
export function* checkStartBounds(index: RecordIndex): Iterable<Violation> {
  for (const [topic, partition, { answers }] of boundsByPartition(index).entries()) {
    const name = nameOf(topic, partition)
    const { deletedAtMs, hasRetention } = index.topic(topic)
    const answered = [...answers].sort((a, b) => a.answeredAtMs - b.answeredAtMs)
    let at = 0
    let highest = 0
    for (const { askedAtMs, startOffset, highWatermark } of answers) {
      for (; at < answered.length && answered[at]!.answeredAtMs < askedAtMs; at++) {
        highest = Math.max(highest, answered[at]!.startOffset)
      }
      if (deletedAtMs.length === 0 && startOffset < highest) {
        yield {
          invariant: 'start-regress',
          message: `${name} begins at ${startOffset}, and began at ${highest} before`,
        }
      }
      const most = hasRetention === true ? highWatermark : 0
      if (startOffset > most) {
        yield { invariant: 'start-overrun', message: `${name} begins at ${startOffset}, and may at ${most} at most` }
      }
    }
  }
}

interface Asked {
  /** Ascending by the time of asking. */
  readonly answers: BoundsFact[]
  readonly floors: Floor[]
}

function boundsByPartition({ history }: RecordIndex): PartitionMap<Asked> {
  const asked = new PartitionMap<Asked>()
  for (const fact of history.bounds ?? []) {
    asked.getOrMake(fact.topic, fact.partition, () => ({ answers: [], floors: [] })).answers.push(fact)
  }
  for (const [, , { answers }] of asked.entries()) answers.sort((a, b) => a.askedAtMs - b.askedAtMs)
  return asked
}

function addFloors(index: RecordIndex, asked: PartitionMap<Asked>): void {
  const { bounds = [], sends, sessions } = index.history
  for (const { topic, partition, answeredAtMs: atMs, highWatermark: offset } of bounds) {
    // What it counts was sent before it was answered; when, nobody knows.
    const floor: Floor = { atMs, offset, sentAtMs: 0, invariant: 'hwm-regress', shownBy: 'an answer' }
    asked.get(topic, partition)?.floors.push(floor)
  }
  const shownBy = 'an acknowledgement'
  for (const { outcome, acks, position, topic, settledAtMs: atMs, invokedAtMs: sentAtMs } of sends) {
    if (outcome !== 'acknowledged' || acks !== 'all' || position === null) continue
    const offset = position.offset + 1
    const { floors } = asked.get(topic, position.partition) ?? {}
    floors?.push({ atMs, offset, sentAtMs, invariant: 'stale-bound', shownBy })
  }
  for (const { topic, reads } of sessions) {
    for (const read of reads) {
      const { floors } = asked.get(topic, read.partition) ?? {}
      if (floors === undefined) continue
      const sentAtMs = index.sentAtMs(read)
      floors.push({
        atMs: read.atMs,
        offset: read.offset + 1,
        sentAtMs,
        invariant: 'stale-bound',
        shownBy: 'a delivery',
      })
    }
  }
}
