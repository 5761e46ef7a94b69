// What must hold of the logs at the end: nothing acknowledged lost, nothing twice, order per key, dense offsets.
import type { SendFact, Violation } from './history.js'
import type { RecordIndex } from './record-index.js'

/**
 * An acknowledged record is at the end where its acknowledgement says, with `acks: none` excepted, which promises
 * nothing. What a power failure took from a `buffered` topic is a tail: nothing acknowledged behind it has survived.
 */
export function* checkLost(index: RecordIndex): Iterable<Violation> {
  for (const send of index.history.sends) {
    if (send.outcome !== 'acknowledged' || send.acks === 'none') continue
    const places = index.placesOf(send.recordId)
    if (places.length > 0 || index.mayBeExpired(send)) continue
    const excused = index.mayBeGone(send.topic, send.invokedAtMs)
    const survivor = excused ? survivorBehind(send, index) : null
    if (survivor === null && excused) continue
    const behind = survivor === null ? '' : `; record ${survivor.recordId} behind it survived, so it was no tail`
    yield { invariant: 'lost-write', message: `${describe(send)} was acknowledged and is in no log${behind}` }
  }
}

function survivorBehind(lost: SendFact, index: RecordIndex): SendFact | null {
  const { position } = lost
  const cut = index.history.diskLosses.find(({ atMs }) => atMs >= lost.invokedAtMs)
  // An acknowledgement that came after the power had failed says nothing of what was behind the record.
  if (
    position === null ||
    cut === undefined ||
    cut.atMs < lost.settledAtMs ||
    index.topic(lost.topic).deletedAtMs.length > 0
  )
    return null
  const survivor = index.history.sends.find(
    (send) =>
      send.topic === lost.topic &&
      send.outcome === 'acknowledged' &&
      send.settledAtMs <= cut.atMs &&
      send.position?.partition === position.partition &&
      send.position.offset > position.offset &&
      index.placesOf(send.recordId).length > 0,
  )
  return survivor ?? null
}

export function* checkDuplicates(index: RecordIndex): Iterable<Violation> {
  for (const recordId of new Set(index.history.finalLogs.flatMap(({ reads }) => reads.map((read) => read.recordId)))) {
    if (recordId === null) continue
    const places = index.placesOf(recordId)
    if (places.length < 2) continue
    const where = places.map(({ topic, read }) => `${topic}/${read.partition}@${read.offset}`).join(', ')
    yield { invariant: 'duplicate', message: `record ${recordId} is in the log ${places.length} times: ${where}` }
  }
}

/** Records of one producer and key lie in the log in the order in which they were sent. */
export function* checkKeyOrder(index: RecordIndex): Iterable<Violation> {
  for (const log of index.history.finalLogs) {
    const last = new Map<string, SendFact>()
    for (const read of log.reads) {
      const send = read.recordId === null ? undefined : index.sendOf.get(read.recordId)
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
    if (other !== undefined && !index.mayBeGone(send.topic, Math.min(send.invokedAtMs, other.invokedAtMs))) {
      yield {
        invariant: 'divergence',
        message: `${describe(send)} and ${describe(other)} were both acknowledged at ${place}`,
      }
    }
    promised.set(place, send)
  }
}

/** All records of a key are in one partition of the topic they were sent to. */
export function* checkRouting(index: RecordIndex): Iterable<Violation> {
  const partitionOf = new Map<string, number>()
  for (const { topic, partition, reads } of index.history.finalLogs) {
    for (const read of reads) {
      const send = read.recordId === null ? undefined : index.sendOf.get(read.recordId)
      if (send === undefined) continue
      if (send.topic !== topic) {
        yield { invariant: 'misroute', message: `${describe(send)} lies in the topic ${topic}, partition ${partition}` }
      }
      if (send.key === null) continue
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
