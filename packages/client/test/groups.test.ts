// Consumer groups against a coordinator that does what a test tells it: shares, commits, rebalances, leases, and what
// happens to all of them when members, coordinators and connections go.
import { type Assignment, type MillraceError, type PartitionLag, processEach, settle } from '@millrace/client'
import { cursorOpen, groupBeat, groupCommit, groupJoin, Reader } from '@millrace/protocol'
import { share } from 'rxjs'
import { describe, expect, test } from 'vitest'
import { buildBatch, fill } from './support/batches.js'
import { beginGroup, everything, join, LEASE_MS } from './support/group-setting.js'
import { Orders, Texts } from './support/setting.js'
import { wrong } from './support/wrong.js'

const unique = (places: readonly string[]): string[] => [...new Set(places)].sort()

describe('sharing', () => {
  test('one member reads everything from the beginning, and commits what is finished', async () => {
    const setting = beginGroup({ records: 25 })
    const { world, coordinator } = setting
    const member = join(setting, 'a')
    await world.run(3_000)
    expect(unique(member.done)).toEqual(everything(4, 25).sort())
    expect(member.done).toHaveLength(100)
    expect([0, 1, 2, 3].map((p) => coordinator.offsetOf(1, p))).toEqual([25, 25, 25, 25])
    expect(coordinator.committed.get('1/0')).toEqual({ offset: 25, term: 1 })
  })

  test('the topic of the coordinators is made when there is none, once', async () => {
    const setting = beginGroup({ records: 1 })
    expect(setting.coordinator.topicId).toBe(0)
    const member = join(setting, 'a')
    await setting.world.until(() => member.done.length === 4)
    expect(setting.cluster.topics.filter(({ name }) => name === '__groups')).toHaveLength(1)
  })

  test('two members share, and what moves is finished first and comes nowhere twice', async () => {
    const setting = beginGroup({ records: 100 })
    const { world, coordinator } = setting
    const first = join(setting, 'a', { workMs: 5, concurrency: 4 })
    await world.run(150)
    const second = join(setting, 'b', { workMs: 5, concurrency: 4 })
    await world.until(() => first.done.length + second.done.length >= 400)
    expect(unique([...first.done, ...second.done])).toEqual(everything(4, 100).sort())
    expect(first.done.length + second.done.length).toBe(400)
    expect(coordinator.partitionsOf('a')).toHaveLength(2)
    expect(coordinator.partitionsOf('b')).toHaveLength(2)
    expect(second.done.length).toBeGreaterThan(50)
  })

  test('goes on where the group has stopped', async () => {
    const setting = beginGroup({ records: 30 })
    const { world, cluster } = setting
    const first = join(setting, 'a')
    await world.until(() => first.done.length === 120)
    await world.result(first.consumer.close())
    for (let p = 0; p < 4; p++) fill(cluster, 1, p, 5, 5)
    const second = join(setting, 'b')
    await world.run(1_000)
    expect(unique(second.done)).toEqual(
      everything(4, 35)
        .filter((place) => Number(place.split('/')[1]) >= 30)
        .sort(),
    )
  })

  test('assignment$ tells what is read, and lag$ how far behind', async () => {
    const setting = beginGroup({ records: 50 })
    const { world, cluster } = setting
    const member = join(setting, 'a', { workMs: 20 })
    const assignments: Assignment[] = []
    const lags: (readonly PartitionLag[])[] = []
    member.consumer.assignment$.subscribe((assignment) => assignments.push(assignment))
    member.consumer.lag$.subscribe((lag) => lags.push(lag))
    await world.run(1_500)
    expect(assignments.at(-1)).toEqual({ topic: 'orders', partitions: [0, 1, 2, 3], revoking: [] })
    const behind = lags.at(-1)!
    expect(behind.map(({ highWatermark }) => highWatermark)).toEqual([50, 50, 50, 50])
    expect(behind.reduce((sum, { lag }) => sum + lag!, 0)).toBeGreaterThan(100)
    await world.until(() => member.done.length === 200)
    fill(cluster, 1, 2, 3, 3)
    await world.run(4_000)
    expect(lags.at(-1)!.map(({ lag, undelivered }) => [lag, undelivered])).toEqual([
      [0, 0],
      [0, 0],
      [0, 0],
      [0, 0],
    ])
    await world.result(member.consumer.close())
    expect(assignments.at(-1)!.partitions).toEqual([])
  })
})

describe('commits', () => {
  test('are of the lowest unfinished record, whatever order the others are finished in', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const resolvers = new Map<string, () => void>()
    const work = (place: string) => new Promise<void>((resolve) => resolvers.set(place, resolve))
    const member = join(setting, 'a', { concurrency: 10, work })
    await world.until(() => member.begun.length === 10)
    for (const place of ['0/9', '0/1', '0/2', '0/5']) resolvers.get(place)!()
    await world.run(2_000)
    expect(coordinator.offsetOf(1, 0)).toBe(0)
    resolvers.get('0/0')!()
    await world.run(2_000)
    expect(coordinator.offsetOf(1, 0)).toBe(3)
    for (const place of ['0/3', '0/4', '0/6', '0/7', '0/8']) resolvers.get(place)!()
    await world.run(2_000)
    expect(coordinator.offsetOf(1, 0)).toBe(10)
  })

  test('carry the term of the record before, and the next member opens with it', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator, cluster } = setting
    cluster.partition(1, 0).term = 4
    cluster.append(1, 0, buildBatch(1, 0, [{ value: 'x' }, { value: 'y' }]))
    const member = join(setting, 'a')
    await world.until(() => member.done.length === 12)
    await world.run(2_000)
    expect(coordinator.committed.get('1/0')).toEqual({ offset: 12, term: 4 })
    await world.result(member.mill.close())
    const terms: number[] = []
    const before = cluster.brokers[0]!.intercept
    cluster.brokers[0]!.intercept = (connection, header, payload) => {
      if (header.kind === cursorOpen.kind) terms.push(cursorOpen.decode(new Reader(payload)).lastTerm)
      return before(connection, header, payload)
    }
    join(setting, 'b')
    await world.run(500)
    expect(terms).toEqual([4])
  })

  test('of a failed record and what is behind it never come: it is delivered again', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const work = async (place: string) => {
      if (place === '0/6') throw new Error('no')
    }
    const member = join(setting, 'a', { work })
    await world.until(() => member.error !== null)
    await world.run(1_000)
    expect(coordinator.offsetOf(1, 0)).toBe(6)
    expect(coordinator.members).toHaveLength(0)
    const again = join(setting, 'b')
    await world.until(() => again.done.length === 4)
    expect(again.done).toEqual(['0/6', '0/7', '0/8', '0/9'])
  })

  test('of a record that cannot be decoded do not come either', async () => {
    const setting = beginGroup({ partitions: 1, records: 0 })
    const { world, cluster, coordinator } = setting
    cluster.append(1, 0, buildBatch(1, 0, [{ value: '1' }, { value: '2' }, { value: 'no json' }, { value: '4' }]))
    let error: MillraceError | null = null
    setting.mill
      .consumer({ group: 'billing' })
      .subscribe(Orders)
      .pipe(settle())
      .subscribe({ error: (reason) => (error = reason) })
    await world.until(() => error !== null)
    await world.run(1_000)
    expect(error!.code).toBe('ERR_MILLRACE_DESERIALIZATION')
    expect(coordinator.offsetOf(1, 0)).toBe(2)
  })

  test('in for await: a record is finished when the next is asked for', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator, mill } = setting
    const consumer = mill.consumer({ group: 'billing' })
    const seen: number[] = []
    const loop = (async () => {
      for await (const record of consumer.subscribe(Texts)) {
        seen.push(record.offset)
        if (record.offset === 4) await new Promise<void>((resolve) => world.at(3_000, resolve))
        if (record.offset === 7) break
      }
    })()
    await world.run(2_000)
    expect(seen).toEqual([0, 1, 2, 3, 4])
    expect(coordinator.offsetOf(1, 0)).toBe(4)
    await world.result(loop)
    await world.run(1_000)
    expect(coordinator.offsetOf(1, 0)).toBe(7)
    expect(coordinator.members).toHaveLength(0)
  })

  test('where a first member begins is committed at once, so that the next begins there too', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator, mill, cluster } = setting
    const consumer = mill.consumer({ group: 'billing' })
    consumer.subscribe(Texts, { from: 'latest' }).pipe(settle()).subscribe()
    await world.run(1_500)
    expect(coordinator.offsetOf(1, 0)).toBe(10)
    await world.result(consumer.close())
    fill(cluster, 1, 0, 3, 3)
    const member = join(setting, 'b')
    await world.until(() => member.done.length === 3)
    expect(member.done).toEqual(['0/10', '0/11', '0/12'])
  })
})

describe('rebalancing', () => {
  test('waits for work that has begun, and leaves what has not to the next', async () => {
    const setting = beginGroup({ partitions: 2, records: 10 })
    const { world, coordinator } = setting
    const resolvers = new Map<string, () => void>()
    const work = (place: string) => new Promise<void>((resolve) => resolvers.set(place, resolve))
    const first = join(setting, 'a', { concurrency: 12, work })
    await world.until(() => new Set(first.begun.map((place) => place[0])).size === 2)
    const second = join(setting, 'b')
    await world.run(2_000)
    // The partition that is to move is still the first one's: work on it is in progress.
    expect(coordinator.partitionsOf('a')).toHaveLength(2)
    expect(second.begun).toEqual([])
    while (second.done.length < 8) {
      for (const [place, resolve] of [...resolvers]) {
        resolvers.delete(place)
        resolve()
      }
      await world.run(5)
    }
    const all = [...first.done, ...second.done]
    expect(all.length).toBe(new Set(all).size)
    expect(coordinator.partitionsOf('b')).toHaveLength(1)
  })

  test('partitions that stay are not touched: their cursors live on', async () => {
    const setting = beginGroup({ records: 5 })
    const { world, cluster, coordinator } = setting
    const first = join(setting, 'a')
    await world.until(() => first.done.length === 20)
    const opened = () => first.mill.statistics()
    const before = opened()
    join(setting, 'b')
    await world.run(500)
    const kept = coordinator.partitionsOf('a')
    expect(kept).toHaveLength(2)
    const cursors = cluster.brokers[0]!.connections.flatMap((connection) => [...connection.cursors.values()])
    expect(cursors).toHaveLength(4)
    for (const p of kept) fill(cluster, 1, p, 1, 1)
    await world.run(50)
    expect(first.done.slice(20).sort()).toEqual(kept.map((p) => `${p}/5`))
    expect(opened()).toEqual(before)
  })

  test('a member that dies loses its partitions after its lease, and what it had not committed comes again', async () => {
    const setting = beginGroup({ records: 50 })
    const { world, coordinator, cluster } = setting
    join(setting, 'a', { workMs: 50 })
    const second = join(setting, 'b', { workMs: 5 })
    await world.run(1_200)
    const deadSince = world.nowMs
    // It is gone without a word: nothing that it says arrives any more.
    const [dead] = coordinator.members.filter(({ clientId }) => clientId === 'a')
    const hers = coordinator.partitionsOf('a')
    const deaf = new Set(cluster.brokers.flatMap((broker) => broker.connections))
    coordinator.intercept = (connection, header, payload) => {
      if (!deaf.has(connection) || header.kind === groupJoin.kind) return false
      const place =
        header.kind === groupBeat.kind
          ? groupBeat.decode(new Reader(payload)).place
          : groupCommit.decode(new Reader(payload)).place
      return place.memberId === dead!.id
    }
    await world.until(() => coordinator.partitionsOf('b').length === 4, 20_000)
    expect(world.nowMs - deadSince).toBeGreaterThan(LEASE_MS / 2)
    await world.until(() => hers.every((p) => second.done.includes(`${p}/49`)), 30_000)
    for (const p of hers) {
      const committed = Number(second.done.find((place) => place.startsWith(`${p}/`))!.split('/')[1])
      expect(second.done.filter((place) => place.startsWith(`${p}/`))).toHaveLength(50 - committed)
    }
    expect(coordinator.wentBack).toEqual([])
  })

  test('a member that was given up for dead delivers and commits nothing more of what it had, and joins again', async () => {
    const setting = beginGroup({ partitions: 2, records: 40 })
    const { world, coordinator } = setting
    const member = join(setting, 'a', { workMs: 30 })
    await world.run(400)
    const [old] = coordinator.members
    const before = coordinator.commits.length
    coordinator.expire(old!)
    await world.until(() => coordinator.members.length === 1)
    expect(coordinator.members[0]!.id).not.toBe(old!.id)
    expect(coordinator.commits.length).toBe(before)
    await world.until(() => unique(member.done).length === 80)
    expect(coordinator.wentBack).toEqual([])
  })

  test('the coordinator moves: beats and commits follow it, nothing goes to the old one, nobody loses anything', async () => {
    const setting = beginGroup({ brokers: 3, records: 200 })
    const { world, coordinator } = setting
    const first = join(setting, 'a', { workMs: 10 })
    const second = join(setting, 'b', { workMs: 10 })
    await world.run(800)
    const astray: string[] = []
    for (let move = 0; move < 6; move++) {
      coordinator.move(1 + ((move + 1) % 3), { silent: move % 2 === 0, tell: move % 3 !== 0 })
      const route = setting.cluster.route(coordinator.topicId, coordinator.partition)
      coordinator.intercept = (connection, { kind }) => {
        if (connection.broker.nodeId !== route.nodeId) astray.push(`${kind} to ${connection.broker.nodeId} in ${move}`)
        return false
      }
      await world.run(2_500)
    }
    await world.until(() => first.done.length + second.done.length >= 800, 60_000)
    expect(first.done.length + second.done.length).toBe(800)
    expect(unique([...first.done, ...second.done])).toHaveLength(800)
    // Of each move that nobody told of, what was asked in that moment, and no more.
    expect(astray.length).toBeLessThanOrEqual(8)
    await world.run(2_000)
    expect(coordinator.wentBack).toEqual([])
    expect([0, 1, 2, 3].map((p) => coordinator.offsetOf(1, p))).toEqual([200, 200, 200, 200])
  })

  test('a commit whose answer is lost is sent again to whoever leads then', async () => {
    const setting = beginGroup({ brokers: 2, partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const member = join(setting, 'a')
    let lost = 0
    coordinator.intercept = (connection, header, payload) => {
      if (header.kind !== groupCommit.kind || lost >= 3) return false
      lost++
      connection.cut()
      if (lost % 2 === 1) coordinator.handle(connection, header, payload)
      return true
    }
    await world.until(() => lost === 3 && coordinator.commits.length >= 3, 20_000)
    await world.run(1_000)
    expect(coordinator.commits.map(({ entries }) => entries[0]?.offset)).toEqual([0, 0, 0, 10])
    expect(member.error).toBe(null)
    expect(coordinator.wentBack).toEqual([])
  })
})

describe('static members', () => {
  test('come back to what they had, and nothing else moves', async () => {
    const setting = beginGroup({ records: 20 })
    const { world, coordinator } = setting
    const stays = join(setting, 'a', { memberName: 'billing-0' })
    const leaves = join(setting, 'b', { memberName: 'billing-1' })
    await world.until(() => stays.done.length + leaves.done.length === 80)
    await world.run(500)
    const hers = coordinator.partitionsOf('b')
    const his = coordinator.partitionsOf('a')
    const assignments: Assignment[] = []
    stays.consumer.assignment$.subscribe((assignment) => assignments.push(assignment))
    await world.result(leaves.mill.close())
    await world.run(LEASE_MS / 4)
    const back = join(setting, 'c', { memberName: 'billing-1' })
    await world.run(500)
    expect(coordinator.partitionsOf('c')).toEqual(hers)
    expect(assignments).toEqual([{ topic: 'orders', partitions: his, revoking: [] }])
    expect(back.begun).toEqual([])
    expect(coordinator.members).toHaveLength(2)
  })

  test('of one name fence each other: the older one ends with MEMBER_FENCED', async () => {
    const setting = beginGroup({ records: 5 })
    const { world } = setting
    const older = join(setting, 'a', { memberName: 'billing-0' })
    await world.run(500)
    const newer = join(setting, 'b', { memberName: 'billing-0' })
    await world.run(LEASE_MS)
    expect(older.error?.code).toBe('ERR_MILLRACE_MEMBER_FENCED')
    expect(newer.error).toBe(null)
  })
})

describe('positions', () => {
  test('seek goes on elsewhere, back and forth, by offset and by time', async () => {
    const setting = beginGroup({ partitions: 1, records: 20 })
    const { world, coordinator } = setting
    const member = join(setting, 'a')
    await world.until(() => member.done.length === 20)
    member.consumer.seek(0, 15)
    await world.until(() => member.done.length === 25)
    member.consumer.seek(0, 'earliest')
    await world.until(() => member.done.length === 45)
    member.consumer.seek(0, { timestamp: 0 })
    await world.until(() => member.done.length === 65)
    await world.run(2_000)
    expect(coordinator.offsetOf(1, 0)).toBe(20)
    expect(coordinator.wentBack).toEqual([])
    expect(() => member.consumer.seek(3, 0)).toThrow('partition 3 is not read')
    expect(() => member.consumer.seek(0, -1)).toThrow('position must be')
  })

  test('seek from within a handler comes after its record', async () => {
    const setting = beginGroup({ partitions: 1, records: 6 })
    const { world, mill } = setting
    const consumer = mill.consumer({ group: 'billing' })
    const seen: number[] = []
    let jumped = false
    consumer
      .subscribe(Texts)
      .pipe(settle())
      .subscribe(({ offset }) => {
        seen.push(offset)
        if (offset === 3 && !jumped) consumer.seek(0, 1)
        jumped ||= offset === 3
      })
    await world.run(1_000)
    expect(seen).toEqual([0, 1, 2, 3, 1, 2, 3, 4, 5])
  })

  test('pause holds partitions back, resume lets them go on', async () => {
    const setting = beginGroup({ partitions: 2, records: 10 })
    const { world, cluster } = setting
    const member = join(setting, 'a')
    await world.until(() => member.done.length === 20)
    member.consumer.pause([0])
    for (const p of [0, 1]) fill(cluster, 1, p, 3, 3)
    await world.run(500)
    expect(member.done.slice(20)).toEqual(['1/10', '1/11', '1/12'])
    member.consumer.resume()
    await world.until(() => member.done.length === 26)
    expect(() => member.consumer.pause([9])).toThrow('partition 9 is not read')
  })
})

describe('what must be said', () => {
  test('a pipeline that settles nothing fails when it is subscribed to', async () => {
    const setting = beginGroup({ records: 1 })
    const consumer = setting.mill.consumer({ group: 'billing' })
    const errors: MillraceError[] = []
    consumer.subscribe(Texts).subscribe({ error: (error) => errors.push(error) })
    expect(errors.map(({ code }) => code)).toEqual(['ERR_MILLRACE_NOTHING_SETTLES'])
    expect(setting.world.dials).toEqual([])
    // It is no subscription: the next one may be one.
    consumer
      .subscribe(Texts)
      .pipe(
        share(),
        processEach(async () => {}),
      )
      .subscribe({ error: (error) => errors.push(error) })
    await setting.world.run(100)
    expect(errors).toHaveLength(1)
  })

  test("commit: 'onReturn' takes the return of next() for it", async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator, mill } = setting
    let count = 0
    mill
      .consumer({ group: 'billing', commit: 'onReturn' })
      .subscribe(Texts)
      .subscribe(() => count++)
    await world.run(1_500)
    expect([count, coordinator.offsetOf(1, 0)]).toEqual([10, 10])
  })

  test('a second subscription is refused, and allowed after the first', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator, mill } = setting
    const consumer = mill.consumer({ group: 'billing' })
    const stream = consumer.subscribe(Texts).pipe(settle())
    const seen: string[] = []
    const first = stream.subscribe(({ offset }) => seen.push(`first ${offset}`))
    const errors: MillraceError[] = []
    stream.subscribe({ error: (error) => errors.push(error) })
    expect(errors.map(({ code }) => code)).toEqual(['ERR_MILLRACE_ALREADY_SUBSCRIBED'])
    await world.until(() => seen.length === 10)
    first.unsubscribe()
    stream.subscribe(({ offset }) => seen.push(`second ${offset}`))
    fill(setting.cluster, 1, 0, 1, 1)
    await world.until(() => seen.length > 10)
    // The first has committed before the second has joined.
    expect(seen.slice(10)).toEqual(['second 10'])
    expect(coordinator.members).toHaveLength(1)
  })

  test.each([
    [{ memberName: 'x' }, 'memberName is for members of a group'],
    [{ group: 'a b' }, 'the name of a group has'],
    [{ group: 'g', memberName: '' }, 'the name of a member has'],
    [{ group: 'g', leaseMs: 10 }, 'leaseMs must be'],
    [{ group: 'g', commit: wrong<'settled'>('never') }, 'commit must be settled or onReturn'],
  ])('%j is no group', (options, message) => {
    const { mill } = beginGroup()
    expect(() => mill.consumer(options)).toThrow(message)
  })

  test('until and partitions are refused', () => {
    const { mill } = beginGroup()
    const consumer = mill.consumer({ group: 'g' })
    for (const options of [{ until: 'end' as const }, { partitions: [0] }]) {
      expect(() => consumer.subscribe(Texts, options)).toThrow('not for groups')
    }
  })

  test('an event loop that stood still for a quarter of the lease is warned of', async () => {
    const setting = beginGroup({ records: 1 })
    const { world } = setting
    const member = join(setting, 'a')
    await world.run(1_000)
    world.block(LEASE_MS / 4)
    await world.run(10)
    const warning = world.warnings.find(({ code }) => code === 'MILLRACE_LOOP_BLOCKED')
    expect(warning?.message).toMatch(/stood still for \d+ ms, the lease in group billing lasts 4000 ms/)
    expect(member.error).toBe(null)
  })
})

describe('the end', () => {
  test('close() waits for work in flight, commits it, leaves, and keeps nothing', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const member = join(setting, 'a', { workMs: 700, concurrency: 2 })
    await world.until(() => member.begun.length === 2)
    await world.result(member.mill.close())
    expect(member.done).toEqual(['0/0', '0/1'])
    expect(coordinator.offsetOf(1, 0)).toBe(2)
    expect([coordinator.members.length, member.completed]).toEqual([0, true])
    await world.result(setting.mill.close())
    await world.run(3_000)
    expect(world.openLinks).toHaveLength(0)
    expect(world.keepAliveTimers).toBe(0)
  })

  test('close() in time although work never ends, and what never ended is not committed', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const work = (place: string) => (place === '0/3' ? new Promise<void>(() => {}) : Promise.resolve())
    const member = join(setting, 'a', { work })
    await world.until(() => member.begun.length === 4)
    const startMs = world.nowMs
    await world.result(member.consumer.close({ timeoutMs: 1_000 }))
    expect(world.nowMs - startMs).toBeLessThanOrEqual(1_010)
    expect(coordinator.offsetOf(1, 0)).toBe(3)
    expect(coordinator.members).toHaveLength(0)
  })

  test('close() with every broker gone ends in time', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, cluster } = setting
    const member = join(setting, 'a', { workMs: 10 })
    await world.run(100)
    cluster.brokers[0]!.stop()
    const startMs = world.nowMs
    await world.result(member.mill.close({ timeoutMs: 2_000 }))
    expect(world.nowMs - startMs).toBeLessThanOrEqual(2_100)
    await world.result(setting.mill.close())
    expect(world.keepAliveTimers).toBe(0)
  })

  test('unsubscribe() is at once: work in flight is left uncommitted, what was finished is committed', async () => {
    const setting = beginGroup({ partitions: 1, records: 10 })
    const { world, coordinator } = setting
    const member = join(setting, 'a', { workMs: 100 })
    await world.until(() => member.begun.length === 4)
    member.unsubscribe()
    await world.run(1_000)
    expect(member.begun).toHaveLength(4)
    expect(coordinator.offsetOf(1, 0)).toBe(3)
    expect(coordinator.members).toHaveLength(0)
  })

  test('a subscription that is ended while it joins leaves no member behind', async () => {
    const setting = beginGroup({ records: 1 })
    const { world, coordinator } = setting
    const member = join(setting, 'a')
    let held: (() => void) | null = null
    coordinator.intercept = (connection, header, payload) => {
      if (header.kind !== groupJoin.kind || held !== null) return false
      held = () => coordinator.handle(connection, header, payload)
      return true
    }
    await world.until(() => held !== null)
    member.unsubscribe()
    await world.run(20)
    held!()
    await world.run(100)
    expect(coordinator.joins).toHaveLength(1)
    expect(coordinator.members).toHaveLength(0)
  })
})
