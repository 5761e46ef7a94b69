// The checker against hand-made histories of replicated partitions: what acks, durability and replicas promise together,
// bounds that leaders answer, and the logs of all replicas. For every invariant at least three bad ones and two good ones.
import { describe, expect, it } from 'vitest'
import { checkHistory } from '../../sim/checker/check-history.js'
import type {
  BatchFact,
  BoundsFact,
  History,
  Invariant,
  LeaderChange,
  ReadFact,
  ReplicaLog,
  SendFact,
  SessionFact,
  TopicFact,
} from '../../sim/checker/history.js'
import { worstRealtimeLagMs } from '../../sim/checker/realtime-lag.js'
import { send } from './send-fact.js'

const ORDERS: TopicFact = { name: 'orders', durability: 'flushed', partitions: 2, replicas: 3, deletedAtMs: [] }
const CLICKS: TopicFact = { ...ORDERS, name: 'clicks', durability: 'buffered' }
const SINGLE: TopicFact = { ...ORDERS, name: 'single', replicas: 1 }
const SMALL: TopicFact = { ...ORDERS, name: 'small', hasRetention: true }
const CHURN: TopicFact = { ...ORDERS, name: 'churn', deletedAtMs: [60] }

function read(recordId: number, offset: number, changes: Partial<ReadFact> = {}): ReadFact {
  return { partition: 0, offset, recordId, digest: `d${recordId}`, atMs: 100, ...changes }
}

function session(reads: readonly ReadFact[], changes: Partial<SessionFact> = {}): SessionFact {
  return { name: 's', topic: 'orders', from: 'earliest', reachedEnd: false, openedAtMs: 50, reads, ...changes }
}

function log(reads: readonly ReadFact[], topic = 'orders', partition = 0) {
  return { topic, partition, reads }
}

function bounds(askedAtMs: number, highWatermark: number, changes: Partial<BoundsFact> = {}): BoundsFact {
  return {
    ...{ topic: 'orders', partition: 0, startOffset: 0 },
    ...{ askedAtMs, answeredAtMs: askedAtMs + 1, highWatermark, ...changes },
  }
}

function change(atMs: number, topic = 'orders', partition = 0): LeaderChange {
  return { atMs, topic, partition }
}

/** Batches of one record each at index 1, 2, ... of term 1. */
function replica(node: number, batches: readonly Partial<BatchFact>[], changes: Partial<ReplicaLog> = {}): ReplicaLog {
  const facts = batches.map((batch, i) => ({ index: i + 1, term: 1, offset: i, records: 1, digest: `b${i}`, ...batch }))
  return { topic: 'orders', partition: 0, node, committedIndex: facts.length, batches: facts, ...changes }
}

function found(changes: Partial<History>): Invariant[] {
  const history = {
    topics: [ORDERS, CLICKS, SINGLE, SMALL, CHURN],
    ...{ sends: [], sessions: [], finalLogs: [], diskLosses: [] },
    ...changes,
  }
  return [...new Set(checkHistory(history).map(({ invariant }) => invariant))]
}

const THREE = [send(0), send(1), send(2)]
const THREE_READ = [read(0, 0), read(1, 1), read(2, 2)]

describe('what is promised', () => {
  const lost = { finalLogs: [log([])] }
  const leader = (recordId: number, changes: Partial<SendFact> = {}) => send(recordId, { acks: 'leader', ...changes })

  it('acks all, flushed: nothing is an excuse', () => {
    const sends = [send(20)]
    expect(found({ sends, ...lost })).toEqual(['lost-write'])
    expect(found({ sends, ...lost, leaderChanges: [change(30)] })).toEqual(['lost-write'])
    const everyNode = [1, 2, 3].map((node) => ({ atMs: 30, node }))
    expect(found({ sends, ...lost, diskLosses: everyNode })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs: [log([read(20, 20)].map((fact) => ({ ...fact, offset: 0 })))] })).toContain(
      'divergence',
    )
    expect(found({ sends: THREE, finalLogs: [log(THREE_READ)], leaderChanges: [change(1)] })).toEqual([])
  })

  it('acks all, buffered: only the loss of unflushed data on a majority', () => {
    const sends = [send(20, { topic: 'clicks' })]
    const finalLogs = [log([], 'clicks')]
    const at = (atMs: number, ...nodes: number[]) => nodes.map((node) => ({ atMs, node }))
    expect(found({ sends, finalLogs })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs, diskLosses: at(30, 1) })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs, diskLosses: [...at(30, 1), ...at(40, 1), ...at(50, 1)] })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs, diskLosses: [...at(10, 1, 2, 3), ...at(30, 1)] })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs, leaderChanges: [change(30, 'clicks')] })).toEqual(['lost-write'])
    expect(found({ sends, finalLogs, diskLosses: at(30, 1, 3) })).toEqual([])
    expect(found({ sends, finalLogs, diskLosses: [...at(30, 2), ...at(90, 3)] })).toEqual([])
    // A tail, even then.
    const three = [0, 1, 2].map((recordId) => send(recordId, { topic: 'clicks' }))
    const holey = [log([read(0, 0), read(2, 2)], 'clicks')]
    expect(found({ sends: three, finalLogs: holey, diskLosses: at(30, 1, 3) })).toContain('lost-write')
  })

  it('acks leader: only another leader, where there can be another', () => {
    expect(found({ sends: [leader(20)], ...lost })).toEqual(['lost-write'])
    expect(found({ sends: [leader(20)], ...lost, leaderChanges: [change(10)] })).toEqual(['lost-write'])
    expect(found({ sends: [leader(20)], ...lost, leaderChanges: [change(30, 'orders', 1)] })).toEqual(['lost-write'])
    const single = leader(20, { topic: 'single' })
    const ofSingle = { finalLogs: [log([], 'single')], leaderChanges: [change(30, 'single')] }
    expect(found({ sends: [single], ...ofSingle })).toEqual(['lost-write'])
    expect(found({ sends: [leader(20)], ...lost, leaderChanges: [change(30)] })).toEqual([])
    // The place of what was lost is given to another.
    const again = send(40, { position: { partition: 0, offset: 0 } })
    const first = leader(20, { position: { partition: 0, offset: 0 } })
    const taken = { sends: [first, again], finalLogs: [log([read(40, 0)])] }
    expect(found({ ...taken, leaderChanges: [change(30)] })).toEqual([])
    expect(found(taken)).toContain('divergence')
    // It is not committed yet when it is acknowledged.
    const reader = session([], { openedAtMs: 20.6, reachedEnd: true })
    const kept = { sends: [first], finalLogs: [log([read(20, 0)])] }
    expect(found({ ...kept, sessions: [reader] })).toEqual([])
    expect(found({ sends: [{ ...first, acks: 'all' }], finalLogs: kept.finalLogs, sessions: [reader] })).toEqual([
      'stale-end',
    ])
  })

  it('acks none: nothing', () => {
    expect(found({ sends: [send(20, { acks: 'none', position: null })], ...lost })).toEqual([])
    expect(
      found({ sends: [send(20, { acks: 'none', position: null })], finalLogs: [log([read(20, 0), read(20, 1)])] }),
    ).toEqual(['duplicate'])
  })
})

it('dedup-false: what is called known is in the log', () => {
  const known = (recordId: number, changes: Partial<SendFact> = {}) => send(recordId, { position: null, ...changes })
  expect(found({ sends: [known(0)], finalLogs: [log([])] })).toEqual(['dedup-false'])
  expect(found({ sends: [known(0, { acks: 'leader' })], finalLogs: [log([])] })).toEqual(['dedup-false'])
  expect(found({ sends: [...THREE, known(3)], finalLogs: [log(THREE_READ)] })).toEqual(['dedup-false'])
  expect(found({ sends: [known(0)], finalLogs: [log([read(0, 0)])] })).toEqual([])
  expect(
    found({ sends: [known(0, { topic: 'small' })], finalLogs: [{ ...log([], 'small'), startOffset: 4 }] }),
  ).toEqual([])
  const leaderChanges = [change(30)]
  expect(found({ sends: [known(20, { acks: 'leader' })], finalLogs: [log([])], leaderChanges })).toEqual([])
})

it('nonmonotonic-send: one producer, one partition, one order', () => {
  const at = (...offsets: number[]) =>
    offsets.map((offset, i) => send(i, { key: `k${i}`, position: { partition: 0, offset } }))
  const logOf = (sends: readonly SendFact[]) => [
    log(
      [...sends]
        .sort((a, b) => a.position!.offset - b.position!.offset)
        .map(({ recordId, position }) => read(recordId, position!.offset)),
    ),
  ]
  for (const offsets of [
    [1, 0],
    [0, 2, 1],
    [2, 0, 1],
    [0, 1, 3, 2],
  ]) {
    const sends = at(...offsets)
    expect(found({ sends, finalLogs: logOf(sends) })).toEqual(['nonmonotonic-send'])
  }
  const sends = at(0, 1, 2)
  expect(found({ sends, finalLogs: logOf(sends) })).toEqual([])
  const two = at(1, 0).map((fact, i) => ({ ...fact, producer: `p${i}` }))
  expect(found({ sends: two, finalLogs: logOf(two) })).toEqual([])
  // A leader that is no more had acknowledged the first one.
  const [early, late] = at(1, 0) as [SendFact, SendFact]
  const leaderChanges = [change(0.7)]
  expect(found({ sends: [{ ...early, acks: 'leader' }, late], finalLogs: [log([read(1, 0)])], leaderChanges })).toEqual(
    [],
  )
})

it('duplicate: nobody is given a record at two places', () => {
  const unknown = send(0, { outcome: 'unknown', position: null })
  const twice = [session([read(0, 0)]), session([read(0, 1)], { from: 'latest' })]
  expect(found({ sends: [unknown], sessions: twice })).toEqual(['duplicate'])
  expect(found({ sends: [unknown], sessions: [session([read(0, 0), read(0, 1)])] })).toEqual(['duplicate'])
  const elsewhere = session([read(0, 0, { partition: 1 })], { from: 'latest' })
  expect(found({ sends: [unknown], sessions: [twice[0]!, elsewhere] })).toEqual(['duplicate'])
  expect(found({ sends: [unknown], sessions: [twice[0]!, twice[0]!] })).toEqual([])
  const click = send(0, { topic: 'clicks', outcome: 'unknown', position: null })
  const sessions = twice.map((one) => ({ ...one, topic: 'clicks' }))
  const diskLosses = [1, 2].map((node) => ({ atMs: 70, node }))
  expect(found({ sends: [click], sessions, diskLosses })).toEqual([])
})

it('unseen: who follows to the end has got everything', () => {
  const all = { sends: THREE, finalLogs: [log(THREE_READ)] }
  const drained = (reads: readonly ReadFact[], from: 'earliest' | 'latest' = 'earliest') => [
    session(reads, { isDrained: true, from }),
  ]
  expect(found({ ...all, sessions: drained([]) })).toEqual(['unseen'])
  expect(found({ ...all, sessions: drained([read(0, 0), read(1, 1)]) })).toEqual(['unseen'])
  expect(found({ ...all, sessions: drained([read(1, 1)], 'latest') })).toEqual(['unseen'])
  expect(found({ ...all, sessions: drained(THREE_READ) })).toEqual([])
  expect(found({ ...all, sessions: drained([read(2, 2)], 'latest') })).toEqual([])
  expect(found({ ...all, sessions: drained([], 'latest') })).toEqual([])
  expect(found({ ...all, sessions: [session([read(0, 0)])] })).toEqual([])
})

it('hwm-regress: no answer takes back what an earlier one has said', () => {
  expect(found({ bounds: [bounds(10, 5), bounds(20, 4)] })).toEqual(['hwm-regress'])
  expect(found({ bounds: [bounds(10, 5), bounds(20, 6), bounds(30, 0)] })).toEqual(['hwm-regress'])
  expect(found({ bounds: [bounds(20, 4), bounds(10, 5)] })).toEqual(['hwm-regress'])
  const clicks = [bounds(10, 5, { topic: 'clicks' }), bounds(20, 4, { topic: 'clicks' })]
  expect(found({ bounds: clicks, diskLosses: [{ atMs: 15, node: 1 }] })).toEqual(['hwm-regress'])
  expect(found({ bounds: [bounds(10, 5), bounds(20, 5), bounds(30, 9)] })).toEqual([])
  // Asked before the other was answered: any order will do.
  expect(found({ bounds: [bounds(10, 5, { answeredAtMs: 40 }), bounds(20, 4)] })).toEqual([])
  expect(found({ bounds: [bounds(10, 5), bounds(20, 4, { partition: 1 })] })).toEqual([])
  const bothLost = [1, 2].map((node) => ({ atMs: 15, node }))
  expect(found({ bounds: clicks, diskLosses: bothLost })).toEqual([])
})

it('stale-bound: an answer is not behind what was known before the question', () => {
  const kept = { sends: THREE, finalLogs: [log(THREE_READ)] }
  expect(found({ ...kept, bounds: [bounds(10, 2)] })).toEqual(['stale-bound'])
  expect(found({ ...kept, bounds: [bounds(1.6, 1)] })).toEqual(['stale-bound'])
  const unknown = THREE.map((fact) => ({ ...fact, outcome: 'unknown' as const, position: null }))
  const seen = [session(THREE_READ.map((fact) => ({ ...fact, atMs: 60 })))]
  expect(found({ ...kept, sends: unknown, sessions: seen, bounds: [bounds(70, 2)] })).toEqual(['stale-bound'])
  expect(found({ ...kept, bounds: [bounds(10, 3)] })).toEqual([])
  expect(found({ ...kept, bounds: [bounds(1.2, 1)] })).toEqual([])
  expect(found({ ...kept, sends: unknown, sessions: seen, bounds: [bounds(55, 2)] })).toEqual([])
  const early = THREE.map((fact) => ({ ...fact, acks: 'leader' as const }))
  expect(found({ ...kept, sends: early, bounds: [bounds(10, 2)] })).toEqual([])
})

it('start-regress, start-overrun: a log begins later and later, and not beyond its end', () => {
  const small = (askedAtMs: number, startOffset: number, highWatermark = 10) =>
    bounds(askedAtMs, highWatermark, { topic: 'small', startOffset })
  expect(found({ bounds: [small(10, 4), small(20, 3)] })).toEqual(['start-regress'])
  expect(found({ bounds: [small(10, 4), small(20, 5), small(30, 0)] })).toEqual(['start-regress'])
  expect(found({ bounds: [small(20, 3), small(10, 4)] })).toEqual(['start-regress'])
  expect(found({ bounds: [small(10, 4), small(20, 4), small(30, 8)] })).toEqual([])
  expect(found({ bounds: [{ ...small(10, 4), answeredAtMs: 30 }, small(20, 3)] })).toEqual([])
  expect(found({ bounds: [small(10, 11)] })).toEqual(['start-overrun'])
  expect(found({ bounds: [small(10, 1, 0)] })).toEqual(['start-overrun'])
  expect(found({ bounds: [bounds(10, 5, { startOffset: 1 })] })).toEqual(['start-overrun'])
  expect(found({ bounds: [small(10, 10)] })).toEqual([])
  expect(found({ bounds: [small(10, 0, 0), bounds(10, 5)] })).toEqual([])
})

describe('replicas', () => {
  it('replica-divergence: what is committed is one log', () => {
    const right = [{}, {}, {}]
    const wrong = (batch: Partial<BatchFact>) => [replica(1, right), replica(2, [{}, batch, {}])]
    expect(found({ replicaLogs: wrong({ digest: 'x' }) })).toEqual(['replica-divergence'])
    expect(found({ replicaLogs: [replica(1, right), replica(2, [{}, { term: 2 }, { term: 2 }])] })).toEqual([
      'replica-divergence',
    ])
    expect(found({ replicaLogs: [replica(1, [{ term: 2 }, { term: 1 }])] })).toEqual(['replica-divergence'])
    // Not committed, but of one term: log matching.
    const open = { committedIndex: 1 }
    expect(found({ replicaLogs: [replica(1, right, open), replica(2, [{}, { digest: 'x' }], open)] })).toEqual([
      'replica-divergence',
    ])
    expect(found({ replicaLogs: [replica(1, right), replica(2, right), replica(3, [{}, {}])] })).toEqual([])
    const superseded = replica(2, [{}, { term: 2, digest: 'x' }], open)
    expect(found({ replicaLogs: [replica(1, right, open), superseded] })).toEqual([])
    const later = replica(2, [{ index: 3, offset: 2, digest: 'b2' }], { committedIndex: 3 })
    expect(found({ replicaLogs: [replica(1, right), later] })).toEqual([])
    expect(found({ replicaLogs: [replica(1, right), replica(1, [{ digest: 'y' }], { partition: 1 })] })).toEqual([])
  })

  it('offset-gap: indexes and offsets of a replica follow each other', () => {
    expect(found({ replicaLogs: [replica(1, [{}, { index: 3 }])] })).toEqual(['offset-gap'])
    expect(found({ replicaLogs: [replica(1, [{}, { offset: 2 }])] })).toEqual(['offset-gap'])
    expect(found({ replicaLogs: [replica(1, [{ records: 2 }, {}])] })).toEqual(['offset-gap'])
    const control = [{}, { records: 0 }, { offset: 1 }]
    expect(found({ replicaLogs: [replica(1, control)] })).toEqual([])
    expect(
      found({
        replicaLogs: [
          replica(1, [
            { index: 7, offset: 40 },
            { index: 8, offset: 41 },
          ]),
        ],
      }),
    ).toEqual([])
  })

  it('torn-batch: all records of a batch or none', () => {
    const unknown = [0, 1, 2].map((recordId) => send(recordId, { outcome: 'unknown', position: null }))
    const three = replica(1, [{ records: 3 }])
    const torn = (reads: readonly ReadFact[]) =>
      found({ sends: unknown, finalLogs: [log(reads)], replicaLogs: [three] })
    expect(torn([read(0, 0)])).toEqual(['torn-batch'])
    expect(torn([read(0, 0), read(1, 1)])).toEqual(['torn-batch'])
    expect(torn([read(0, 0), read(2, 2)])).toContain('torn-batch')
    expect(torn(THREE_READ)).toEqual([])
    expect(torn([])).toEqual([])
    const open = { ...three, committedIndex: 0 }
    expect(found({ sends: unknown, finalLogs: [log([])], replicaLogs: [open] })).toEqual([])
  })
})

it('realtime lag is the longest way from an acknowledgement to a follower', () => {
  const none = { topics: [ORDERS], finalLogs: [], diskLosses: [] }
  const reads = [read(0, 0, { atMs: 60 }), read(1, 1, { atMs: 75 })]
  const sends = [send(0, { settledAtMs: 55 }), send(1, { settledAtMs: 57 })]
  expect(worstRealtimeLagMs({ ...none, sends, sessions: [session(reads)] })).toBe(18)
  expect(worstRealtimeLagMs({ ...none, sends, sessions: [session(reads)] }, 58)).toBe(0)
  expect(worstRealtimeLagMs({ ...none, sends, sessions: [session(reads, { openedAtMs: 56 })] })).toBe(18)
  expect(worstRealtimeLagMs({ ...none, sends, sessions: [] })).toBe(0)
})

it('judges a hundred thousand operations in a few seconds', { timeout: 120_000 }, () => {
  const count = 100_000
  const partitions = 4
  const at = (i: number) => ({ partition: i % partitions, offset: Math.floor(i / partitions) })
  const sends = Array.from({ length: count }, (_, i) =>
    send(i, { key: `k${i % partitions}`, producer: `p${i % 8}`, topic: 'clicks', position: at(i) }),
  )
  const reads = sends.map((_, i) => ({ ...read(i, at(i).offset), partition: at(i).partition, atMs: count + 10 }))
  const finalLogs = Array.from({ length: partitions }, (_, partition) =>
    log(
      reads.filter((fact) => fact.partition === partition),
      'clicks',
      partition,
    ),
  )
  const sessions = Array.from({ length: 200 }, (_, i) =>
    session(i % 50 === 0 ? reads : reads.slice(0, 4), {
      ...{ name: `s${i}`, topic: 'clicks', openedAtMs: i * 100, reachedEnd: i === 0 },
    }),
  )
  const asked = Array.from({ length: 1000 }, (_, i) => bounds(i * 100 + 90, count, { topic: 'clicks' }))
  const diskLosses = Array.from({ length: 100 }, (_, i) => ({ atMs: i * 1000, node: 1 }))
  const topics = [{ ...CLICKS, partitions }]
  const before = process.cpuUsage()
  expect(checkHistory({ topics, sends, sessions, finalLogs, bounds: asked, diskLosses })).toEqual([])
  const { user } = process.cpuUsage(before)
  expect(user / 1e6).toBeLessThan(15)
})
