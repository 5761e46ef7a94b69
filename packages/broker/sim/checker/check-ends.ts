// What must hold of where readings begin and end: nothing that was acknowledged is left out, nothing gone comes back.
import { describe } from './check-log.js'
import type { ReadFact, SendFact, SessionFact, Violation } from './history.js'
import { nameOf } from './promises.js'
import type { RecordIndex } from './record-index.js'

/** Reading from the beginning to the end shows everything acknowledged before the reading began. */
export function* checkEnds(index: RecordIndex): Iterable<Violation> {
  const due = new Map<string, SendFact[]>()
  for (const send of index.history.sends) {
    if (send.outcome !== 'acknowledged' || !index.promises.isCommittedWhenAcknowledged(send)) continue
    if (index.promises.mayBeLost(send) || index.mayBeExpired(send)) continue
    const line = due.get(send.topic)
    if (line === undefined) due.set(send.topic, [send])
    else line.push(send)
  }
  for (const line of due.values()) line.sort((a, b) => a.settledAtMs - b.settledAtMs)
  for (const session of index.history.sessions) {
    if (!session.reachedEnd || session.from !== 'earliest') continue
    const given = new Set(session.reads.map(({ recordId }) => recordId))
    for (const send of due.get(session.topic) ?? []) {
      if (send.settledAtMs > session.openedAtMs) break
      if (given.has(send.recordId)) continue
      yield {
        invariant: 'stale-end',
        message: `${session.name} read ${session.topic} to its end without ${describe(send)}`,
      }
    }
  }
}

/** Who follows a topic until everything has come to rest has got everything. */
export function* checkUnseen(index: RecordIndex): Iterable<Violation> {
  for (const session of index.history.sessions) {
    if (session.isDrained !== true) continue
    const next = new Map<number, number>()
    for (const { partition, offset } of session.reads) next.set(partition, offset + 1)
    for (const { topic, partition, reads } of index.history.finalLogs) {
      const last = reads.at(-1)
      // Where a session from the latest offset began is not known while it has got nothing.
      const from = next.get(partition) ?? (session.from === 'earliest' ? 0 : Number.POSITIVE_INFINITY)
      if (topic !== session.topic || last === undefined || from > last.offset) continue
      yield {
        invariant: 'unseen',
        message: `${session.name} has followed ${topic}/${partition} up to ${from} and never got to ${last.offset}`,
      }
    }
  }
}

/** A topic made anew under an old name holds nothing of the old one. */
export function* checkDeleted(index: RecordIndex): Iterable<Violation> {
  for (const { name, topic, openedAtMs, reads } of index.history.sessions) {
    const deletedAtMs = index.topic(topic).deletedAtMs.findLast((atMs) => atMs < openedAtMs)
    if (deletedAtMs === undefined) continue
    for (const read of reads) {
      const send = index.sendBehind(read)
      if (send === undefined || send.settledAtMs >= deletedAtMs || send.outcome !== 'acknowledged') continue
      yield {
        invariant: 'resurrected',
        message: `${name} was given ${describe(send)} at ${read.partition}@${read.offset}, from before the topic was deleted`,
      }
    }
  }
}

/** Who reads one life of a topic is given nothing that was sent to another one of its name. */
export function* checkLives(index: RecordIndex): Iterable<Violation> {
  const nameIn = (topic: string): string => topic.split('#')[0]!
  for (const { name, topic, reads } of index.history.sessions) {
    for (const read of reads) {
      const send = index.sendBehind(read)
      if (send === undefined || send.topic === topic || nameIn(send.topic) !== nameIn(topic)) continue
      yield { invariant: 'resurrected', message: `${name} reads ${topic} and was given ${describe(send)}` }
    }
  }
}

interface SeenStart {
  readonly topic: string
  readonly read: ReadFact
}

/**
 * A log's start only moves up, and nobody reads below it: what the first record of a session from the earliest offset
 * shows of it binds every session opened later, and the end.
 */
export function* checkStarts(index: RecordIndex): Iterable<Violation> {
  const seen = index.history.sessions
    .filter(({ topic, from }) => from === 'earliest' && index.topic(topic).hasRetention === true)
    .flatMap(firstReads)
  for (const { topic, read } of seen) {
    const last = index.lastStart(topic, read.partition)
    // What begins after the question may begin higher still.
    if (last === null || read.atMs > last.askedAtMs || read.offset <= last.startOffset) continue
    yield {
      invariant: 'session-skip',
      message: `a session from the earliest offset began at ${topic}/${read.partition}@${read.offset}, the log at ${last.startOffset}`,
    }
  }
  const starts = new KnownStarts(seen)
  for (const { name, topic, openedAtMs, reads } of index.history.sessions) {
    for (const read of reads) {
      const known = starts.before(topic, read.partition, openedAtMs)
      if (known === null || known <= read.offset) continue
      yield {
        invariant: 'below-start',
        message: `${name} was given ${topic}/${read.partition}@${read.offset}, and the log began at ${known} before`,
      }
    }
  }
}

function firstReads({ topic, reads }: SessionFact): SeenStart[] {
  const first = new Map<number, ReadFact>()
  for (const read of reads) if (!first.has(read.partition)) first.set(read.partition, read)
  return [...first.values()].map((read) => ({ topic, read }))
}

/** The highest start that was seen of each partition, at any moment. */
class KnownStarts {
  private readonly lines = new Map<string, { readonly atMs: number; readonly start: number }[]>()

  constructor(seen: readonly SeenStart[]) {
    for (const { topic, read } of [...seen].sort((a, b) => a.read.atMs - b.read.atMs)) {
      const name = nameOf(topic, read.partition)
      const line = this.lines.get(name) ?? []
      line.push({ atMs: read.atMs, start: Math.max(read.offset, line.at(-1)?.start ?? 0) })
      this.lines.set(name, line)
    }
  }

  before(topic: string, partition: number, atMs: number): number | null {
    const line = this.lines.get(nameOf(topic, partition))
    if (line === undefined) return null
    return line.findLast((known) => known.atMs < atMs)?.start ?? null
  }
}
