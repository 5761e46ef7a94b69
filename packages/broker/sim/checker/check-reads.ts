// What must hold of every delivery: bytes as sent, nothing that failed, nothing skipped, nothing that is not to stay.
import { describe } from './check-log.js'
import type { ReadFact, SessionFact, Violation } from './history.js'
import { PartitionMap } from './partition-map.js'
import type { RecordIndex } from './record-index.js'

/** Every read, live or final: it was sent, its send has not failed, and its bytes are those that were sent. */
export function* checkContents(index: RecordIndex): Iterable<Violation> {
  const { sessions, finalLogs } = index.history
  for (const { name, topic, reads } of sessions) for (const read of reads) yield* checkContent(index, name, topic, read)
  for (const { topic, partition, reads } of finalLogs) {
    for (const read of reads) yield* checkContent(index, `final read of ${partition}`, topic, read)
  }
}

function* checkContent(index: RecordIndex, reader: string, topic: string, read: ReadFact): Iterable<Violation> {
  const where = `${topic}/${read.partition}@${read.offset} (${reader})`
  const send = index.sendBehind(read)
  if (send === undefined) {
    yield { invariant: 'phantom', message: `${where}: a record that nobody sent (id ${read.recordId})` }
    return
  }
  if (send.topic !== topic) yield { invariant: 'misroute', message: `${where}: ${describe(send)}` }
  if (send.digest !== read.digest) {
    yield {
      invariant: 'wrong-bytes',
      message: `${where}: ${describe(send)} was sent as ${send.digest}, read as ${read.digest}`,
    }
  }
  if (send.outcome === 'failed') {
    yield { invariant: 'aborted-read', message: `${where}: ${describe(send)}, which was reported as failed` }
  }
}

/** One session gets the records of a partition in order, each once, without a hole. */
export function* checkSessions(index: RecordIndex): Iterable<Violation> {
  for (const session of index.history.sessions) {
    const next = new Map<number, number>()
    for (const read of session.reads) {
      // Where the log began when the session was opened only the session knows; `checkStarts` compares it with others.
      const isAtStart = session.from === 'earliest' && index.topic(session.topic).hasRetention !== true
      const first = isAtStart ? 0 : read.offset
      const expected = next.get(read.partition) ?? first
      next.set(read.partition, read.offset + 1)
      if (read.offset === expected || index.promises.mayVanish(session.topic, session.openedAtMs)) continue
      const where = `${session.name}: ${session.topic}/${read.partition}`
      yield read.offset < expected
        ? { invariant: 'session-repeat', message: `${where}: offset ${read.offset} again, ${expected} was due` }
        : { invariant: 'session-skip', message: `${where}: offset ${read.offset}, but ${expected} was due` }
    }
  }
}

/** What a session was given is at the end still what is there. */
export function* checkDirty(index: RecordIndex): Iterable<Violation> {
  for (const { name, topic, reads } of index.history.sessions) {
    for (const read of reads) {
      if (!index.hasFinalLog(topic, read.partition) || index.promises.mayVanish(topic, index.sentAtMs(read))) continue
      const final = index.finalAt(topic, read.partition, read.offset)
      if (final !== null && final.recordId === read.recordId) continue
      if (final === null && index.isExpired(topic, read.partition, read.offset)) continue
      yield {
        invariant: 'dirty-read',
        message: `${name} was given record ${read.recordId} at ${topic}/${read.partition}@${read.offset}; at the end ${final === null ? 'nothing' : `record ${final.recordId}`} is there`,
      }
    }
  }
}

/** Two sessions never see different records at one place. */
export function* checkAgreement(index: RecordIndex): Iterable<Violation> {
  const seen = new PartitionMap<Map<number, { readonly session: SessionFact; readonly read: ReadFact }>>()
  for (const session of index.history.sessions) {
    for (const read of session.reads) {
      const places = seen.getOrMake(session.topic, read.partition, () => new Map())
      const before = places.get(read.offset)
      if (before === undefined) places.set(read.offset, { session, read })
      if (before === undefined || before.read.recordId === read.recordId) continue
      const sentAtMs = Math.min(index.sentAtMs(before.read), index.sentAtMs(read))
      if (index.promises.mayVanish(session.topic, sentAtMs)) continue
      yield {
        invariant: 'divergence',
        message: `at ${session.topic}/${read.partition}@${read.offset} ${before.session.name} got record ${before.read.recordId}, ${session.name} record ${read.recordId}`,
      }
    }
  }
}
