// What must hold of every delivery: bytes as sent, nothing that failed, nothing skipped, nothing that is not to stay.
import { describe } from './check-log.js'
import type { ReadFact, SessionFact, Violation } from './history.js'
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
  const send = read.recordId === null ? undefined : index.sendOf.get(read.recordId)
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
      if (read.offset === expected || index.mayBeGone(session.topic, session.openedAtMs)) continue
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
      if (!index.hasFinalLog(topic, read.partition) || index.mayBeGone(topic, index.sentAtMs(read))) continue
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
  const seen = new Map<string, { readonly session: SessionFact; readonly read: ReadFact }>()
  for (const session of index.history.sessions) {
    for (const read of session.reads) {
      const place = `${session.topic}/${read.partition}@${read.offset}`
      const before = seen.get(place)
      if (before === undefined) seen.set(place, { session, read })
      else if (
        before.read.recordId !== read.recordId &&
        !index.mayBeGone(session.topic, Math.min(index.sentAtMs(before.read), index.sentAtMs(read)))
      ) {
        yield {
          invariant: 'divergence',
          message: `at ${place} ${before.session.name} got record ${before.read.recordId}, ${session.name} record ${read.recordId}`,
        }
      }
    }
  }
}

/** Reading from the beginning to the end shows everything acknowledged before the reading began. */
export function* checkEnds(index: RecordIndex): Iterable<Violation> {
  for (const session of index.history.sessions) {
    if (!session.reachedEnd || session.from !== 'earliest') continue
    const given = new Set(session.reads.map(({ recordId }) => recordId))
    for (const send of index.history.sends) {
      const due = send.topic === session.topic && send.outcome === 'acknowledged' && send.acks !== 'none'
      if (!due || send.settledAtMs > session.openedAtMs || given.has(send.recordId)) continue
      if (index.mayBeGone(send.topic, send.invokedAtMs) || index.mayBeExpired(send)) continue
      yield {
        invariant: 'stale-end',
        message: `${session.name} read ${session.topic} to its end without ${describe(send)}`,
      }
    }
  }
}

/** A topic made anew under an old name holds nothing of the old one. */
export function* checkDeleted(index: RecordIndex): Iterable<Violation> {
  for (const { name, topic, openedAtMs, reads } of index.history.sessions) {
    const deletedAtMs = index.topic(topic).deletedAtMs.findLast((atMs) => atMs < openedAtMs)
    if (deletedAtMs === undefined) continue
    for (const { recordId, partition, offset } of reads) {
      const send = recordId === null ? undefined : index.sendOf.get(recordId)
      if (send === undefined || send.settledAtMs >= deletedAtMs || send.outcome !== 'acknowledged') continue
      yield {
        invariant: 'resurrected',
        message: `${name} was given ${describe(send)} at ${partition}@${offset}, from before the topic was deleted`,
      }
    }
  }
}

/**
 * A log's start only moves up, and nobody reads below it: what the first record of a session from the earliest offset
 * shows of it binds every session opened later, and the end.
 */
export function* checkStarts(index: RecordIndex): Iterable<Violation> {
  const seen = index.history.sessions
    .filter(({ topic, from }) => from === 'earliest' && index.topic(topic).hasRetention === true)
    .flatMap(({ topic, reads }) => {
      const first = new Map<number, ReadFact>()
      for (const read of reads) if (!first.has(read.partition)) first.set(read.partition, read)
      return [...first.values()].map((read) => ({ topic, read }))
    })
  for (const { topic, read } of seen) {
    const final = index.finalStart(topic, read.partition)
    if (!index.hasFinalLog(topic, read.partition) || read.offset <= final) continue
    yield {
      invariant: 'session-skip',
      message: `a session from the earliest offset began at ${topic}/${read.partition}@${read.offset}, the log at ${final}`,
    }
  }
  for (const { name, topic, openedAtMs, reads } of index.history.sessions) {
    for (const read of reads) {
      const known = seen.find(
        ({ topic: of, read: { partition, offset, atMs } }) =>
          of === topic && partition === read.partition && atMs < openedAtMs && offset > read.offset,
      )
      if (known === undefined) continue
      yield {
        invariant: 'below-start',
        message: `${name} was given ${topic}/${read.partition}@${read.offset}, and the log began at ${known.read.offset} before`,
      }
    }
  }
}
