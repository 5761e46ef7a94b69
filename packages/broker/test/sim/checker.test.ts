// The checker against histories made by hand: for every invariant at least three bad ones and two good ones.
import { expect, it } from 'vitest'
import { checkHistory } from '../../sim/checker/check-history.js'
import type { History, Invariant, ReadFact, SendFact, SessionFact, TopicFact } from '../../sim/checker/history.js'
import { send } from './send-fact.js'

const FLUSHED: TopicFact = { name: 'orders', durability: 'flushed', partitions: 2, deletedAtMs: [] }
const BUFFERED: TopicFact = { ...FLUSHED, name: 'clicks', durability: 'buffered' }
const SMALL: TopicFact = { ...FLUSHED, name: 'small', hasRetention: true }

function read(recordId: number | null, offset: number, changes: Partial<ReadFact> = {}): ReadFact {
  return { partition: 0, offset, recordId, digest: `d${recordId}`, atMs: 100, ...changes }
}

function session(reads: readonly ReadFact[], changes: Partial<SessionFact> = {}): SessionFact {
  return { name: 's', topic: 'orders', from: 'earliest', reachedEnd: false, openedAtMs: 50, reads, ...changes }
}

function log(reads: readonly ReadFact[], topic = 'orders', partition = 0) {
  return { topic, partition, reads }
}

function history(changes: Partial<History>): History {
  return {
    topics: [FLUSHED, BUFFERED, SMALL],
    sends: [],
    sessions: [],
    finalLogs: [log([])],
    diskLosses: [],
    ...changes,
  }
}

function found(changes: Partial<History>): Invariant[] {
  return [...new Set(checkHistory(history(changes)).map(({ invariant }) => invariant))]
}

const THREE = [send(0), send(1), send(2)]
const THREE_READ = [read(0, 0), read(1, 1), read(2, 2)]
const clicks = (recordId: number, changes: Partial<SendFact> = {}) => send(recordId, { topic: 'clicks', ...changes })

it('finds nothing in histories that are right', () => {
  expect(found({})).toEqual([])
  expect(found({ sends: THREE, finalLogs: [log(THREE_READ)] })).toEqual([])
  expect(
    found({
      sends: THREE,
      finalLogs: [log(THREE_READ)],
      sessions: [session(THREE_READ, { reachedEnd: true }), session([read(1, 1), read(2, 2)], { from: 'latest' })],
    }),
  ).toEqual([])
  // An unknown send may be there or not; a failed one is not; acks none may vanish.
  expect(
    found({
      sends: [
        send(0, { outcome: 'unknown', position: null }),
        send(1, { outcome: 'unknown', position: null }),
        send(2, { outcome: 'failed', position: null }),
        send(3, { acks: 'none', position: null }),
      ],
      finalLogs: [log([read(1, 0)])],
    }),
  ).toEqual([])
  // Two partitions, keys apart, two producers interleaved.
  expect(
    found({
      sends: [
        send(0, { key: 'a', producer: 'p', order: 1 }),
        send(1, { key: 'b', position: { partition: 1, offset: 0 } }),
        send(2, { key: 'a', producer: 'q', order: 0, position: { partition: 0, offset: 1 } }),
        send(3, { key: null, position: { partition: 1, offset: 1 } }),
      ],
      finalLogs: [
        log([read(0, 0), read(2, 1)]),
        log([read(1, 0, { partition: 1 }), read(3, 1, { partition: 1 })], 'orders', 1),
      ],
    }),
  ).toEqual([])
})

it('lost-write: an acknowledged record has to be there', () => {
  expect(found({ sends: THREE, finalLogs: [log([read(0, 0), read(1, 1)])] })).toEqual(['lost-write'])
  expect(found({ sends: THREE, finalLogs: [log([])] })).toEqual(['lost-write'])
  expect(found({ sends: [send(0, { invokedAtMs: 20 })], diskLosses: [{ atMs: 10 }] })).toEqual(['lost-write'])
  expect(found({ sends: [send(0, { acks: 'leader' })] })).toEqual(['lost-write'])
  // A power failure is no excuse where records are flushed, nor one that came before.
  expect(found({ sends: THREE, finalLogs: [log([])], diskLosses: [{ atMs: 10 }] })).toEqual(['lost-write'])
  expect(found({ sends: [clicks(20)], finalLogs: [log([], 'clicks')], diskLosses: [{ atMs: 10 }] })).toEqual([
    'lost-write',
  ])
  // What is lost of a buffered topic is a tail.
  const three = [clicks(0), clicks(1), clicks(2)]
  const cut = { diskLosses: [{ atMs: 10 }] }
  expect(found({ sends: three, finalLogs: [log([read(0, 0), read(2, 2)], 'clicks')], ...cut })).toContain('lost-write')
  expect(found({ sends: three, finalLogs: [log([read(0, 0)], 'clicks')], ...cut })).toEqual([])
  expect(found({ sends: three, finalLogs: [log([], 'clicks')], ...cut })).toEqual([])
  // The acknowledgement was on its way when the power failed.
  expect(found({ sends: [clicks(9, { settledAtMs: 11 })], finalLogs: [log([], 'clicks')], ...cut })).toEqual([])
})

it('duplicate: a record is in the log once', () => {
  expect(found({ sends: [send(0)], finalLogs: [log([read(0, 0), read(0, 1)])] })).toContain('duplicate')
  expect(
    found({ sends: [send(0)], finalLogs: [log([read(0, 0)]), log([read(0, 0, { partition: 1 })], 'orders', 1)] }),
  ).toContain('duplicate')
  expect(
    found({ sends: [send(0, { outcome: 'unknown', position: null })], finalLogs: [log([read(0, 0), read(0, 1)])] }),
  ).toEqual(['duplicate'])
})

it('key-order: records of one producer and key keep their order', () => {
  const at = (offsets: number[]) => offsets.map((offset, i) => send(i, { position: { partition: 0, offset } }))
  expect(found({ sends: at([1, 0]), finalLogs: [log([read(1, 0), read(0, 1)])] })).toContain('key-order')
  expect(found({ sends: at([0, 2, 1]), finalLogs: [log([read(0, 0), read(2, 1), read(1, 2)])] })).toContain('key-order')
  expect(
    found({
      sends: [send(0, { outcome: 'unknown', position: null }), send(1, { outcome: 'unknown', position: null })],
      finalLogs: [log([read(1, 0), read(0, 1)])],
    }),
  ).toEqual(['key-order'])
  // Other keys, other producers and records without a key have no order among them.
  const sends = (changes: Partial<SendFact>) => [
    send(0, { outcome: 'unknown', position: null }),
    send(1, { position: { partition: 0, offset: 0 }, ...changes }),
  ]
  for (const changes of [{ key: 'other' }, { producer: 'q' }, { key: null }]) {
    expect(found({ sends: sends(changes), finalLogs: [log([read(1, 0), read(0, 1)])] })).toEqual([])
  }
})

it('offset-gap: offsets are dense from 0', () => {
  const unknown = [0, 1, 2].map((recordId) => send(recordId, { outcome: 'unknown', position: null }))
  expect(found({ sends: unknown, finalLogs: [log([read(0, 1), read(1, 2)])] })).toEqual(['offset-gap'])
  expect(found({ sends: unknown, finalLogs: [log([read(0, 0), read(1, 2)])] })).toEqual(['offset-gap'])
  expect(found({ sends: unknown, finalLogs: [log([read(0, 0), read(1, 0)])] })).toEqual(['offset-gap'])
  expect(found({ sends: unknown, finalLogs: [log([read(0, 0), read(1, 1)])] })).toEqual([])
})

it('divergence: acknowledgements, logs and readers agree on places', () => {
  expect(
    found({ sends: [send(0, { position: { partition: 0, offset: 7 } })], finalLogs: [log([read(0, 0)])] }),
  ).toEqual(['divergence'])
  expect(
    found({ sends: [send(0, { position: { partition: 1, offset: 0 } })], finalLogs: [log([read(0, 0)])] }),
  ).toEqual(['divergence'])
  expect(
    found({
      sends: [send(0), send(1, { position: { partition: 0, offset: 0 } })],
      finalLogs: [log([read(0, 0), read(1, 1)])],
    }),
  ).toContain('divergence')
  const unknown = [0, 1].map((recordId) => send(recordId, { outcome: 'unknown', position: null }))
  expect(found({ sends: unknown, sessions: [session([read(0, 0)]), session([read(1, 0)])] })).toContain('divergence')
  // After a power failure a buffered topic may give the place of a lost record to another.
  expect(
    found({
      sends: [clicks(0), clicks(20, { position: { partition: 0, offset: 0 } })],
      finalLogs: [log([read(20, 0)], 'clicks')],
      diskLosses: [{ atMs: 10 }],
    }),
  ).toEqual([])
})

it('dirty-read: what was delivered stays', () => {
  const unknown = [0, 1].map((recordId) => send(recordId, { outcome: 'unknown', position: null }))
  expect(found({ sends: unknown, sessions: [session([read(0, 0)])] })).toEqual(['dirty-read'])
  expect(found({ sends: unknown, sessions: [session([read(0, 0)])], finalLogs: [log([read(1, 0)])] })).toEqual([
    'dirty-read',
  ])
  expect(
    found({
      sends: unknown,
      sessions: [session([read(0, 0), read(1, 1)])],
      finalLogs: [log([read(0, 0)])],
      diskLosses: [{ atMs: 200 }],
    }),
  ).toEqual(['dirty-read'])
  const buffered = [clicks(0, { outcome: 'unknown', position: null })]
  const sessions = [session([read(0, 0)], { topic: 'clicks' })]
  expect(found({ sends: buffered, sessions, finalLogs: [log([], 'clicks')], diskLosses: [{ atMs: 200 }] })).toEqual([])
  expect(found({ sends: buffered, sessions, finalLogs: [log([], 'clicks')] })).toEqual(['dirty-read'])
})

it('aborted-read: what failed is nowhere', () => {
  const failed = send(0, { outcome: 'failed', position: null })
  expect(found({ sends: [failed], finalLogs: [log([read(0, 0)])] })).toEqual(['aborted-read'])
  expect(found({ sends: [failed], sessions: [session([read(0, 0)])], finalLogs: [log([read(0, 0)])] })).toEqual([
    'aborted-read',
  ])
  expect(found({ sends: [failed, send(1)], finalLogs: [log([read(0, 0), read(1, 1)])] })).toEqual(['aborted-read'])
})

it('wrong-bytes, phantom: what is read was sent, as it was sent', () => {
  expect(found({ sends: [send(0)], finalLogs: [log([read(0, 0, { digest: 'x' })])] })).toEqual(['wrong-bytes'])
  expect(
    found({ sends: [send(0)], finalLogs: [log([read(0, 0)])], sessions: [session([read(0, 0, { digest: 'x' })])] }),
  ).toEqual(['wrong-bytes'])
  expect(found({ sends: THREE, finalLogs: [log([read(0, 0), read(1, 1), read(2, 2, { digest: 'd1' })])] })).toEqual([
    'wrong-bytes',
  ])
  expect(found({ finalLogs: [log([read(9, 0)])] })).toEqual(['phantom'])
  expect(found({ finalLogs: [log([read(null, 0)])] })).toEqual(['phantom'])
  expect(found({ sends: [send(0)], finalLogs: [log([read(0, 0), read(9, 1)])] })).toEqual(['phantom'])
})

it('misroute: a record is in the topic and the partition of its key', () => {
  const elsewhere = [log([]), log([read(0, 0)], 'clicks')]
  expect(found({ sends: [send(0)], finalLogs: elsewhere })).toContain('misroute')
  const unknown = [0, 1].map((recordId) => send(recordId, { outcome: 'unknown', position: null }))
  expect(found({ sends: unknown, finalLogs: [log([]), log([read(0, 0)], 'clicks')] })).toEqual(['misroute'])
  expect(
    found({ sends: unknown, finalLogs: [log([read(0, 0)]), log([read(1, 0, { partition: 1 })], 'orders', 1)] }),
  ).toEqual(['misroute'])
  expect(
    found({ sends: unknown, sessions: [session([read(0, 0)], { topic: 'clicks' })], finalLogs: [log([read(0, 0)])] }),
  ).toEqual(['misroute'])
})

it('session-skip, session-repeat: a session gets each record once, in order', () => {
  const all = { sends: THREE, finalLogs: [log(THREE_READ)] }
  expect(found({ ...all, sessions: [session([read(0, 0), read(2, 2)])] })).toEqual(['session-skip'])
  expect(found({ ...all, sessions: [session([read(1, 1), read(2, 2)])] })).toEqual(['session-skip'])
  expect(found({ ...all, sessions: [session([read(0, 0), read(2, 2)], { from: 'latest' })] })).toEqual(['session-skip'])
  expect(found({ ...all, sessions: [session([read(0, 0), read(0, 0)])] })).toEqual(['session-repeat'])
  expect(found({ ...all, sessions: [session([read(0, 0), read(1, 1), read(0, 0), read(1, 1)])] })).toEqual([
    'session-repeat',
  ])
  expect(found({ ...all, sessions: [session([read(2, 2), read(1, 1)], { from: 'latest' })] })).toEqual([
    'session-repeat',
  ])
  expect(found({ ...all, sessions: [session([read(0, 0)]), session([read(0, 0)])] })).toEqual([])
})

it('stale-end: reading to the end shows what was acknowledged before', () => {
  const all = { sends: THREE, finalLogs: [log(THREE_READ)] }
  const to = (reads: ReadFact[], changes: Partial<SessionFact> = {}) => [
    session(reads, { reachedEnd: true, ...changes }),
  ]
  expect(found({ ...all, sessions: to([read(0, 0), read(1, 1)]) })).toEqual(['stale-end'])
  expect(found({ ...all, sessions: to([]) })).toEqual(['stale-end'])
  expect(found({ ...all, sessions: to([read(0, 0)], { openedAtMs: 1.7 }) })).toEqual(['stale-end'])
  expect(found({ ...all, sessions: to([read(0, 0), read(1, 1)], { openedAtMs: 1.7 }) })).toEqual([])
  expect(found({ ...all, sessions: to([], { from: 'latest' }) })).toEqual([])
})

it('resurrected: a topic made anew holds nothing of the old one', () => {
  const topics = [{ ...FLUSHED, deletedAtMs: [10] }]
  const later = send(20, { position: { partition: 0, offset: 0 } })
  const sends = [send(0), send(1), later]
  expect(found({ topics, sends, finalLogs: [], sessions: [session([read(0, 0)])] })).toEqual(['resurrected'])
  expect(found({ topics, sends, finalLogs: [], sessions: [session([read(20, 0), read(1, 1)])] })).toEqual([
    'resurrected',
  ])
  const twice = [{ ...FLUSHED, deletedAtMs: [10, 40] }]
  expect(found({ topics: twice, sends, finalLogs: [], sessions: [session([read(20, 0)])] })).toEqual(['resurrected'])
  expect(found({ topics, sends, finalLogs: [], sessions: [session([read(20, 0)])] })).toEqual([])
  expect(found({ topics, sends, finalLogs: [], sessions: [session([read(0, 0)], { openedAtMs: 5 })] })).toEqual([])
})

it('resurrected: lives of one name have nothing in common', () => {
  const topics = ['orders#1', 'orders#2', 'others#1'].map((name) => ({ ...FLUSHED, name }))
  const sends = [send(0, { topic: 'orders#1' }), send(1, { topic: 'orders#2' }), send(2, { topic: 'others#1' })]
  const lives = (topic: string, reads: readonly ReadFact[]) =>
    found({ topics, sends, finalLogs: [], sessions: [session(reads, { topic })] })
  expect(lives('orders#2', [read(0, 0)])).toContain('resurrected')
  expect(lives('orders#2', [read(1, 0), read(0, 1)])).toContain('resurrected')
  expect(lives('orders#1', [read(1, 0)])).toContain('resurrected')
  expect(lives('orders#1', [read(2, 0)])).not.toContain('resurrected')
  expect(lives('orders#1', [read(0, 0)])).not.toContain('resurrected')
  expect(lives('orders#2', [read(1, 0)])).not.toContain('resurrected')
})

const small = (recordId: number, changes: Partial<SendFact> = {}) => send(recordId, { topic: 'small', ...changes })
const smallLog = (startOffset: number, reads: readonly ReadFact[]) => ({ ...log(reads, 'small'), startOffset })
const smallSession = (reads: readonly ReadFact[], changes: Partial<SessionFact> = {}) =>
  session(reads, { topic: 'small', ...changes })

it('retention takes the beginning of a log that has it, and nothing else', () => {
  const sends = [small(0), small(1), small(2), small(3)]
  const left = [read(2, 2), read(3, 3)]
  expect(found({ sends, finalLogs: [smallLog(2, left)] })).toEqual([])
  expect(found({ sends: [small(0, { position: null })], finalLogs: [smallLog(2, [])] })).toEqual([])
  // What was delivered may go afterwards; whoever comes later begins where the log begins then.
  const all = [read(0, 0, { atMs: 10 }), read(1, 1, { atMs: 10 }), read(2, 2), read(3, 3)]
  const sessions = [smallSession(all, { openedAtMs: 5 }), smallSession(left, { openedAtMs: 60, reachedEnd: true })]
  expect(found({ sends, finalLogs: [smallLog(2, left)], sessions })).toEqual([])
  expect(found({ sends, finalLogs: [smallLog(1, left)] })).toEqual(['lost-write', 'offset-gap'])
  expect(found({ sends, finalLogs: [smallLog(2, [read(3, 3)])] })).toEqual(['lost-write', 'offset-gap'])
  expect(found({ sends: THREE, finalLogs: [{ ...log([read(1, 1), read(2, 2)]), startOffset: 1 }] })).toEqual([
    'lost-write',
    'offset-gap',
  ])
  expect(found({ sends, finalLogs: [smallLog(2, left)], sessions: [smallSession([read(3, 3)])] })).toEqual([
    'session-skip',
  ])
  expect(
    found({ sends, finalLogs: [smallLog(2, left)], sessions: [smallSession([read(2, 2)], { reachedEnd: true })] }),
  ).toEqual(['stale-end'])
})

it('session-skip: retention goes on behind the final read, and no session begins behind it', () => {
  const sends = [small(0), small(1), small(2)]
  const finalLogs = [smallLog(1, [read(1, 1), read(2, 2)])]
  const late = (atMs: number) => smallSession([read(2, 2, { atMs })], { openedAtMs: 150 })
  const lastStarts = (startOffset: number) => [{ topic: 'small', partition: 0, askedAtMs: 300, startOffset }]
  expect(found({ sends, finalLogs, sessions: [late(200)], lastStarts: lastStarts(2) })).toEqual([])
  expect(found({ sends, finalLogs, sessions: [late(400)], lastStarts: lastStarts(1) })).toEqual([])
  expect(found({ sends, finalLogs, sessions: [late(200)], lastStarts: lastStarts(1) })).toEqual(['session-skip'])
  expect(found({ sends, finalLogs, sessions: [late(200)] })).toEqual(['session-skip'])
})

it('below-start: nobody is given what went before the session began', () => {
  const sends = [small(0), small(1), small(2)]
  const early = smallSession([read(2, 2, { atMs: 10 })], { openedAtMs: 5 })
  const finalLogs = [smallLog(2, [read(2, 2)])]
  for (const from of ['earliest', 'latest'] as const) {
    const late = smallSession([read(1, 1), read(2, 2)], { openedAtMs: 20, from })
    expect(found({ sends, finalLogs, sessions: [early, late] })).toEqual(['below-start'])
    expect(found({ sends, finalLogs, sessions: [early, { ...late, openedAtMs: 8 }] })).toEqual([])
  }
  const other = smallSession([read(0, 0, { partition: 1 })], { openedAtMs: 20 })
  expect(found({ sends, finalLogs, sessions: [early, other] })).not.toContain('below-start')
})

it('reports one cause a few times, not a thousand', () => {
  const sends = Array.from({ length: 1000 }, (_, i) => send(i))
  expect(checkHistory(history({ sends }))).toHaveLength(5)
})
