// First contact, the map, and what happens when brokers come and go.
import { ConnectionError, MillraceError } from '@millrace/client'
import { connectWith } from '@millrace/client/environment'
import { failure, hello, helloReply, mapSubscribe } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { CLUSTER_ID } from './support/fake-broker.js'
import { FakeWorld } from './support/fake-world.js'
import { begin, Orders, Texts } from './support/setting.js'

describe('options', () => {
  const world = new FakeWorld()
  const bad = (options: object): unknown => {
    try {
      connectWith(world.environment, options as { bootstrap: string })
    } catch (error) {
      return error
    }
    return null
  }

  test.each([
    [{}, 'bootstrap'],
    [{ bootstrap: '' }, 'address'],
    [{ bootstrap: [] }, 'empty'],
    [{ bootstrap: 'host:0' }, 'host:0'],
    [{ bootstrap: 'host:99999' }, 'host:99999'],
    [{ bootstrap: 'http://host' }, 'http'],
    [{ bootstrap: 'a', bufferBytes: -1 }, 'bufferBytes'],
    [{ bootstrap: 'a', connectTimeoutMs: 1.5 }, 'connectTimeoutMs'],
    [{ bootstrap: 'a', retry: { initialMs: 10, maxMs: 5 } }, 'retry.maxMs'],
    [{ bootstrap: 'a', group: 'g' }, 'group'],
  ])('%j is refused and named', (options, named) => {
    const error = bad(options)
    expect(MillraceError.is(error) && error.code).toBe('ERR_MILLRACE_INVALID_ARGUMENT')
    expect(String(error)).toContain(named)
  })

  test('a misspelt or not yet existing option of producer and consumer is refused', () => {
    const { mill } = begin()
    expect(() => mill.producer(Orders, { lingerMs: 5 } as object)).toThrow('lingerMs')
    expect(() => mill.producer(Orders, { acks: 'some' } as object)).toThrow('acks')
    expect(() => mill.consumer({ grupo: 'g' } as object)).toThrow('grupo')
    expect(() => mill.producer('a/b')).toThrow('a/b')
  })

  test('all forms of addresses', async () => {
    const world = new FakeWorld()
    const bootstrap = ['a', 'b:1,c:2', 'millrace://d:3', '[::1]:4', '[fe80::1]']
    const mill = connectWith(world.environment, { bootstrap, connectTimeoutMs: 3_000 })
    await world.failure(mill.ready())
    expect([...new Set(world.dials)].sort()).toEqual(['::1:4', 'a:7420', 'b:1', 'c:2', 'd:3', 'fe80::1:7420'])
  })
})

describe('first contact', () => {
  test('nothing is dialled before something is asked for', async () => {
    const { world, mill } = begin()
    await world.run(10_000)
    expect(world.dials).toEqual([])
    await world.result(mill.ready())
    expect(world.dials).toEqual(['broker:7420'])
  })

  test('failure names every address and cause, and comes after connectTimeoutMs', async () => {
    const world = new FakeWorld()
    world.blackHoles.add('hole:1')
    const mill = connectWith(world.environment, { bootstrap: 'refused:1,hole:1', connectTimeoutMs: 4_000 })
    const startMs = world.nowMs
    const error = await world.failure(mill.producer(Orders).send('k', { n: 1 }))
    expect(error).toBeInstanceOf(ConnectionError)
    expect(error).toMatchObject({ code: 'ERR_MILLRACE_CONNECTION', retriable: true, outcome: 'failed' })
    expect(String(error)).toMatch(/refused:1: .*ECONNREFUSED/)
    expect(String(error)).toMatch(/hole:1: /)
    expect(world.nowMs - startMs).toBeGreaterThanOrEqual(3_999)
    expect(world.nowMs - startMs).toBeLessThan(4_010)
    expect(world.warnings).toMatchObject([{ code: 'MILLRACE_UNREACHABLE' }])
  })

  test('everything pending fails: sends, subscriptions, loops, ready', async () => {
    const world = new FakeWorld()
    const mill = connectWith(world.environment, { bootstrap: 'nobody' })
    const producer = mill.producer(Orders)
    const errors: unknown[] = []
    mill
      .consumer()
      .subscribe(Orders)
      .subscribe({ error: (error) => errors.push(error) })
    const loop = mill.consumer().subscribe(Orders)[Symbol.asyncIterator]().next()
    const outcomes = Promise.allSettled([producer.send('k', { n: 1 }), producer.ready(), mill.ready(), loop])
    const results = await world.result(outcomes)
    for (const result of results)
      expect(result).toMatchObject({ status: 'rejected', reason: { name: 'ConnectionError' } })
    expect(errors).toMatchObject([{ name: 'ConnectionError', fatal: true }])
    // An idle client does not go on dialling.
    const dials = world.dials.length
    await world.run(60_000)
    expect(world.dials.length).toBe(dials)
  })

  test('something asked for later tries again', async () => {
    const { world, cluster, mill } = begin()
    cluster.brokers[0]!.stop()
    await world.failure(mill.ready())
    cluster.brokers[0]!.start()
    await world.result(mill.ready())
  })

  test('wait: true waits', async () => {
    const { world, cluster, mill } = begin({ wait: true })
    cluster.brokers[0]!.stop()
    const sent = mill.producer(Orders).send('k', { n: 1 })
    await world.run(100_000)
    cluster.brokers[0]!.start()
    expect(await world.result(sent, 20_000)).toMatchObject({ offset: 0 })
  })

  test('one dead address of two does not matter', async () => {
    const { world, cluster, connect } = begin()
    world.blackHoles.add('hole:7420')
    expect(cluster.brokers.length).toBe(1)
    for (let i = 0; i < 8; i++) await world.result(connect({ bootstrap: ['hole', 'broker'] }).ready(), 5_000)
  })

  test('a broker of another protocol, version, cluster or node is told as such', async () => {
    const say = async (reply: (world: FakeWorld) => Uint8Array): Promise<string> => {
      const world = new FakeWorld()
      world.listeners.set('odd:7420', (socket) => ({
        onBytes: () => socket.write(reply(world)),
        onClosed: () => {},
      }))
      const mill = connectWith(world.environment, { bootstrap: 'odd', connectTimeoutMs: 1_000 })
      return String(await world.failure(mill.ready()))
    }
    expect(await say(() => new TextEncoder().encode('HTTP/1.1 400 Bad Request\r\n\r\n'))).toContain('HTTP')
    expect(await say(() => new Uint8Array([0x16, 0x03, 1, 2, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]))).toContain('TLS')
    expect(await say(() => new Uint8Array(64).fill(0xff))).toMatch(/frame of \d+ bytes/)

    const { world, cluster, mill } = begin({ connectTimeoutMs: 1_000 })
    cluster.brokers[0]!.helloReply = (reply) => ({ ...reply, version: 9 })
    expect(String(await world.failure(mill.ready()))).toContain('version 9')
    cluster.brokers[0]!.intercept = (connection, header) => {
      if (header.kind === hello.kind) connection.fail('UNSUPPORTED_VERSION', header.id, 'speaks 7 to 8')
      return header.kind === hello.kind
    }
    expect(String(await world.failure(mill.ready()))).toContain('speaks 7 to 8')
  })

  test('HELLO carries what the client knows and expects', async () => {
    const { world, cluster, mill } = begin({ clientId: 'me' })
    const hellos: ReturnType<typeof hello.decode>[] = []
    const { Reader } = await import('@millrace/protocol')
    cluster.brokers[0]!.intercept = (_connection, header, payload) => {
      if (header.kind === hello.kind) hellos.push(hello.decode(new Reader(payload)))
      return false
    }
    await world.result(mill.producer(Orders).send('k', { n: 1 }))
    expect(hellos).toMatchObject([
      { clientId: 'me', clusterId: '0'.repeat(32), nodeId: 0, shard: 0 },
      { clientId: 'me', clusterId: CLUSTER_ID, nodeId: 1, shard: 0 },
    ])
  })
})

describe('the control connection', () => {
  test('moves to another broker when it breaks, and says so', async () => {
    const { world, cluster, mill, statuses } = begin({ brokers: 2 })
    await world.result(mill.ready())
    const first = cluster.brokers.find(({ control }) => control.length > 0)!
    const other = cluster.brokers.find((broker) => broker !== first)!
    first.stop()
    await world.run(100)
    expect(other.control.length).toBe(1)
    expect(statuses.map(({ kind }) => kind)).toEqual(['connecting', 'connected', 'control-lost', 'connected'])
    expect(statuses[2]).toMatchObject({ nodeId: first.nodeId, error: { code: 'ERR_MILLRACE_CONNECTION' } })
  })

  test('moves when heartbeats are missing', async () => {
    const { world, cluster, mill, statuses } = begin({ brokers: 2 })
    await world.result(mill.ready())
    const first = cluster.brokers.find(({ control }) => control.length > 0)!
    first.heartbeats = false
    await world.run(1_900)
    expect(first.control.length).toBe(1)
    await world.run(1_000)
    expect(first.control.length).toBe(0)
    expect(statuses.map(({ kind }) => kind)).toContain('control-stale')
  })

  test('moves when its node has not heard from the metadata leader for more than 5 s', async () => {
    const { world, cluster, mill, statuses } = begin({ brokers: 2 })
    await world.result(mill.ready())
    const first = cluster.brokers.find(({ control }) => control.length > 0)!
    await world.run(20_000)
    expect(first.control.length).toBe(1)
    first.metadataAgeMs = 9_000
    await world.run(8_000)
    expect(first.control.length).toBe(0)
    expect(statuses.at(-2)?.kind).toBe('control-stale')
  })

  test('a blocked event loop is no stale map', async () => {
    const { world, cluster, mill, statuses } = begin()
    await world.result(mill.ready())
    await world.run(2_000)
    cluster.brokers[0]!.control[0]!.beat()
    world.block(20_000)
    await world.run(10)
    expect(statuses.map(({ kind }) => kind)).toEqual(['connecting', 'connected'])
  })

  test('back-off grows with jitter up to its limit', async () => {
    const { world, cluster, mill } = begin({ wait: true })
    cluster.brokers[0]!.stop()
    void mill.ready()
    await world.run(60_000)
    const early = world.dials.length
    expect(early).toBeGreaterThan(8)
    expect(early).toBeLessThan(60)
    await world.run(100_000)
    expect(world.dials.length - early).toBeLessThan(60)
    expect(world.dials.length - early).toBeGreaterThan(10)
  })

  test('after the first contact the known members are used besides bootstrap', async () => {
    const { world, cluster, mill } = begin({ brokers: 3 })
    await world.result(mill.ready())
    cluster.brokers[0]!.stop()
    if (cluster.brokers[0]!.control.length === 0) await world.run(100)
    cluster.brokers[1]!.stop()
    await world.run(3_000)
    expect(cluster.brokers[2]!.control.length).toBe(1)
  })

  test('another node at a known address is asked all the same', async () => {
    const { world, cluster, mill } = begin()
    await world.result(mill.ready())
    const [first] = cluster.brokers
    first!.stop()
    await world.run(50)
    // The same place, the same cluster, another node.
    cluster.brokers.length = 0
    cluster.nodes = []
    cluster.brokers.push(first!)
    const second = cluster.addBroker('broker', 7420)
    second.helloReply = (reply) => ({ ...reply, nodeId: 2 })
    cluster.version++
    await world.run(20_000)
    expect(second.control.length).toBe(1)
  })

  test('a data connection that nothing needs any more is closed after a while', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 1 })
    const producer = mill.producer(Orders)
    await world.result(producer.send('a', { n: 1 }))
    expect(cluster.brokers[0]!.data.length).toBe(1)
    cluster.move(1, 0, 2)
    await world.result(producer.send('a', { n: 2 }))
    await world.run(20_000)
    expect(cluster.brokers[0]!.data.length).toBe(1)
    await world.run(20_000)
    expect(cluster.brokers[0]!.data.length).toBe(0)
    expect(cluster.brokers[1]!.data.length).toBe(1)
    cluster.move(1, 0, 1)
    await world.result(producer.send('a', { n: 3 }))
  })

  test('a gap in the deltas brings a new snapshot', async () => {
    const { world, cluster, mill } = begin({ partitions: 0 })
    await world.result(mill.ready())
    const [control] = cluster.brokers[0]!.control
    control!.sequence += 1
    cluster.addTopic('orders', 1)
    const { world: _, ...rest } = { world }
    expect(rest).toEqual({})
    await world.run(100)
    expect(control!.frames.filter(({ kind }) => kind === mapSubscribe.kind).length).toBe(2)
    expect(await world.result(mill.cluster.whereIs(Texts, 'a'))).toMatchObject({ partition: 0, nodeId: 1 })
  })

  test('a failure frame before the end of a connection is its reason', async () => {
    const { world, cluster, mill, statuses } = begin()
    await world.result(mill.ready())
    const [control] = cluster.brokers[0]!.control
    control!.fail('SHUTTING_DOWN', 0, 'going down')
    control!.cut(null)
    await world.run(50)
    expect(statuses.find(({ kind }) => kind === 'control-lost')?.error).toMatchObject({
      code: 'ERR_MILLRACE_SHUTTING_DOWN',
    })
  })

  test('unknown frames end the connection by name', async () => {
    const { world, cluster, mill, statuses } = begin()
    await world.result(mill.ready())
    cluster.brokers[0]!.control[0]!.send({ ...failure, kind: 999 }, { code: 1, answeredKind: 0, detail: '' }, 5)
    await world.run(50)
    const lost = statuses.find(({ kind }) => kind === 'control-lost')
    expect(lost?.error).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_KIND' })
    expect(lost?.message).toContain('kind 999')
  })

  test('HELLO answered twice ends the connection', async () => {
    const { world, cluster, mill, statuses } = begin()
    await world.result(mill.ready())
    const reply = {
      version: 1,
      shard: 0,
      features: 0,
      clusterId: CLUSTER_ID,
      nodeId: 1,
      shardCount: 1,
      maxFrameBytes: 1,
      maxBatchBytes: 1,
      software: '',
    }
    cluster.brokers[0]!.control[0]!.send(helloReply, reply, 1)
    await world.run(50)
    expect(statuses.find(({ kind }) => kind === 'control-lost')?.error?.code).toBe('ERR_MILLRACE_UNKNOWN_KIND')
  })
})

describe('whereIs', () => {
  test('explains a route', async () => {
    const { world, mill } = begin({ brokers: 2, partitions: 4 })
    const where = await world.result(mill.cluster.whereIs(Texts, 'customer-42'))
    expect(where).toMatchObject({ topic: 'orders', shard: 0, term: 1 })
    expect(where.nodeId).toBe(1 + (where.partition % 2))
    expect(where.address).toBe(`broker:${7419 + where.nodeId}`)
    expect(await world.failure(mill.cluster.whereIs('none', null))).toMatchObject({
      code: 'ERR_MILLRACE_UNKNOWN_TOPIC',
    })
  })
})
