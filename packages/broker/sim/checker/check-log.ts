// What must hold of the logs at the end: nothing acknowledged lost, nothing twice, order per key, dense offsets.
import type { ReadFact, SendFact, Violation } from './history.js'
import { nameOf } from './promises.js'
import type { RecordIndex } from './record-index.js'

/**
 * An acknowledged record is at the end where its acknowledgement says, except where `acks`, durability and replication
 * together promise less. What a power failure takes from a `buffered` topic is a tail: nothing acknowledged behind it
 * has survived.
 */
export function* checkLost(index: RecordIndex): Iterable<Violation> {
  const survivors = new Survivors(index)
  for (const send of index.history.sends) {
    if (send.outcome !== 'acknowledged' || send.acks === 'none') continue
    if (index.placesOf(send.recordId).length > 0 || index.mayBeExpired(send)) continue
    const excused = index.promises.mayBeLost(send)
    const survivor = excused ? survivors.behind(send) : null
    if (survivor === null && excused) continue
    if (send.position === null) {
      yield { invariant: 'dedup-false', message: `${describe(send)} was acknowledged as known and is in no log` }
      continue
    }
    const behind = survivor === null ? '' : `; record ${survivor.recordId} behind it survived, so it was no tail`
    yield { invariant: 'lost-write', message: `${describe(send)} was acknowledged and is in no log${behind}` }
  }
}

/** Acknowledged records that are there at the end, by the time of their acknowledgement. */
class Survivors {
  /** Per partition, ascending by time; `furthest` is the one with the highest offset up to there. */
  private readonly lines = new Map<string, { readonly settledAtMs: number; readonly furthest: SendFact }[]>()

  constructor(private readonly index: RecordIndex) {
    const there = index.history.sends
      .filter((send) => send.outcome === 'acknowledged' && index.placesOf(send.recordId).length > 0)
      .sort((a, b) => a.settledAtMs - b.settledAtMs)
    for (const send of there) {
      if (send.position === null) continue
      const name = nameOf(send.topic, send.position.partition)
      const line = this.lines.get(name) ?? []
      const before = line.at(-1)?.furthest
      const isFurther = before === undefined || send.position.offset > before.position!.offset
      line.push({ settledAtMs: send.settledAtMs, furthest: isFurther ? send : before })
      this.lines.set(name, line)
    }
  }

  /** A record behind a lost one, if both were there when the power failed. */
  behind(lost: SendFact): SendFact | null {
    const { position, topic } = lost
    const { promises } = this.index
    if (position === null || promises.topic(topic).deletedAtMs.length > 0 || promises.mayBeSuperseded(lost)) return null
    const cutMs = promises.firstLossMs(lost.invokedAtMs)
    // An acknowledgement that came after the power had failed says nothing of what was behind the record.
    if (cutMs === null || cutMs < lost.settledAtMs) return null
    const line = this.lines.get(nameOf(topic, position.partition)) ?? []
    let low = 0
    for (let high = line.length; low < high; ) {
      const middle = (low + high) >> 1
      if (line[middle]!.settledAtMs <= cutMs) low = middle + 1
      else high = middle
    }
    const furthest = line[low - 1]?.furthest
    return furthest !== undefined && furthest.position!.offset > position.offset ? furthest : null
  }
}

/** A record is in the log once, and nobody was ever given it at two places. */
export function* checkDuplicates(index: RecordIndex): Iterable<Violation> {
  const { finalLogs, sessions } = index.history
  for (const recordId of new Set(finalLogs.flatMap(({ reads }) => reads.map((read) => read.recordId)))) {
    if (recordId === null) continue
    const places = index.placesOf(recordId)
    if (places.length < 2) continue
    const where = places.map(({ topic, read }) => `${topic}/${read.partition}@${read.offset}`).join(', ')
    yield { invariant: 'duplicate', message: `record ${recordId} is in the log ${places.length} times: ${where}` }
  }
  const given = new Map<number, { readonly topic: string; readonly read: ReadFact }>()
  for (const { topic, name, reads } of sessions) {
    for (const read of reads) {
      const send = index.sendBehind(read)
      if (send === undefined) continue
      const before = given.get(send.recordId)
      if (before === undefined) given.set(send.recordId, { topic, read })
      if (before === undefined || before.topic !== topic || isSamePlace(before.read, read)) continue
      if (index.promises.mayVanish(topic, send.invokedAtMs)) continue
      yield {
        invariant: 'duplicate',
        message: `${name} was given ${describe(send)} at ${read.partition}@${read.offset}; it was read at ${before.read.partition}@${before.read.offset} before`,
      }
    }
  }
}

function isSamePlace(left: ReadFact, right: ReadFact): boolean {
  return left.partition === right.partition && left.offset === right.offset
}

/** Records of one producer and key lie in the log in the order in which they were sent. */
export function* checkKeyOrder(index: RecordIndex): Iterable<Violation> {
  for (const log of index.history.finalLogs) {
    const last = new Map<string, SendFact>()
    for (const read of log.reads) {
      const send = index.sendBehind(read)
      if (send === undefined || send.key === null) continue
      const line = `${send.producer}\u0000${send.key}`
      const before = last.get(line)
      if (before !== undefined && before.order > send.order) {
        yield {
          invariant: 'key-order',
          message: `${describe(send)} lies at ${log.topic}/${log.partition}@${read.offset}, behind ${describe(before)}, which was sent later`,
        }
      }
      if (before === undefined || before.order < send.order) last.set(line, send)
    }
  }
}

/** What one producer had acknowledged in one partition lies there in the order in which it was sent. */
export function* checkSendOrder(index: RecordIndex): Iterable<Violation> {
  const furthest = new Map<string, SendFact>()
  for (const send of index.history.sends) {
    if (send.outcome !== 'acknowledged' || send.position === null || index.promises.mayBeLost(send)) continue
    const line = `${send.producer}\u0000${nameOf(send.topic, send.position.partition)}`
    const before = furthest.get(line)
    if (before === undefined || before.position!.offset <= send.position.offset) furthest.set(line, send)
    else {
      yield {
        invariant: 'nonmonotonic-send',
        message: `${describe(send)} was acknowledged at ${send.position.offset}, ${describe(before)}, sent before, at ${before.position!.offset}`,
      }
    }
  }
}

export function* checkDense(index: RecordIndex): Iterable<Violation> {
  for (const { topic, partition, reads } of index.history.finalLogs) {
    const startOffset = index.finalStart(topic, partition)
    if (startOffset > 0 && index.topic(topic).hasRetention !== true) {
      yield {
        invariant: 'offset-gap',
        message: `${topic}/${partition} begins at ${startOffset}, and nothing was to go`,
      }
    }
    for (const [i, read] of reads.entries()) {
      const expected = i === 0 ? startOffset : reads[i - 1]!.offset + 1
      if (read.offset !== expected) {
        yield {
          invariant: 'offset-gap',
          message: `${topic}/${partition}: offset ${read.offset} where ${expected} is due`,
        }
      }
    }
  }
}

/** Acknowledgements and logs agree on where a record is, and no two records were promised one place. */
export function* checkPositions(index: RecordIndex): Iterable<Violation> {
  const promised = new Map<string, SendFact>()
  for (const send of index.history.sends) {
    const { position } = send
    if (send.outcome !== 'acknowledged' || position === null) continue
    const place = `${send.topic}/${position.partition}@${position.offset}`
    for (const { topic, read } of index.placesOf(send.recordId)) {
      if (topic === send.topic && read.partition === position.partition && read.offset === position.offset) continue
      yield {
        invariant: 'divergence',
        message: `${describe(send)} was acknowledged at ${place} and lies at ${topic}/${read.partition}@${read.offset}`,
      }
    }
    const other = promised.get(place)
    if (other !== undefined && !index.promises.mayBeLost(send) && !index.promises.mayBeLost(other)) {
      yield {
        invariant: 'divergence',
        message: `${describe(send)} and ${describe(other)} were both acknowledged at ${place}`,
      }
    }
    promised.set(place, send)
  }
}

/** All records of a key are in one partition of the topic they were sent to, as long as that has as many. */
export function* checkRouting(index: RecordIndex): Iterable<Violation> {
  const partitionOf = new Map<string, number>()
  for (const { topic, partition, reads } of index.history.finalLogs) {
    for (const read of reads) {
      const send = index.sendBehind(read)
      if (send === undefined) continue
      if (send.topic !== topic) {
        yield { invariant: 'misroute', message: `${describe(send)} lies in the topic ${topic}, partition ${partition}` }
      }
      if (send.key === null || index.topic(topic).hasMorePartitions === true) continue
      const key = `${topic}\u0000${send.key}`
      const before = partitionOf.get(key) ?? partition
      if (before !== partition) {
        yield {
          invariant: 'misroute',
          message: `the key ${send.key} of ${topic} lies in partitions ${before} and ${partition}`,
        }
      }
      partitionOf.set(key, partition)
    }
  }
}

export function describe(send: SendFact): string {
  return `record ${send.recordId} (${send.producer} #${send.order}, key ${send.key}, topic ${send.topic})`
}
