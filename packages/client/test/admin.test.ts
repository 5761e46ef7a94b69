// Administration over the control connection.
import { type Mill, MillraceError } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { ADMIN_OPERATIONS, adminReply, admin as adminRequest, ERROR_TABLE, Reader } from '@millrace/protocol'
import { Packr } from 'msgpackr'
import { describe, expect, test } from 'vitest'
import { begin, Orders } from './support/setting.js'

const packer = new Packr({ useRecords: false })

/** A broker that answers every operation with these bytes. */
function answering(reply: unknown, code = 0): ReturnType<typeof begin> {
  const setting = begin()
  setting.cluster.brokers[0]!.intercept = (connection, header) => {
    if (header.kind !== adminRequest.kind) return false
    const payload = reply instanceof Uint8Array ? reply : new Uint8Array(packer.pack(reply))
    connection.send(adminReply, { code, mapVersion: 1, detail: 'told', payload }, header.id)
    return true
  }
  return setting
}

describe('topics', () => {
  test('createTopic resolves when this client can send to it', async () => {
    const { world, cluster, mill } = begin({ partitions: 0 })
    const created = await world.result(
      admin(mill).createTopic('orders', { partitions: 4, durability: 'buffered', codecs: ['none'] }),
    )
    expect(created).toEqual({ topicId: 1, name: 'orders', partitions: 4 })
    expect(cluster.topics[0]!.routes.length).toBe(4)
    await world.result(mill.producer(Orders).send('a', { n: 1 }), 20)
    expect(mill.statistics().refreshes).toBe(0)
  })

  test('createTopic asks for as many replicas as it is told, or leaves it to the cluster', async () => {
    const { world, cluster, mill } = begin({ partitions: 0 })
    const asked: unknown[] = []
    cluster.brokers[0]!.intercept = (_connection, header, payload) => {
      if (header.kind === adminRequest.kind) asked.push(packer.unpack(adminRequest.decode(new Reader(payload)).payload))
      return false
    }
    await world.result(admin(mill).createTopic('three', { replicas: 3 }))
    await world.result(admin(mill).createTopic('default'))
    expect(asked).toEqual([
      { name: 'three', partitions: 1, replicas: 3 },
      { name: 'default', partitions: 1 },
    ])
  })

  test('createTopic waits for leaders', async () => {
    const { world, cluster, mill } = begin({ partitions: 0 })
    const addTopic = cluster.addTopic.bind(cluster)
    cluster.addTopic = (name, partitions) => addTopic(name, partitions, {}, () => 0)
    let created = false
    const creating = admin(mill)
      .createTopic('orders')
      .then(() => {
        created = true
      })
    await world.run(2_000)
    expect(created).toBe(false)
    cluster.move(1, 0, 1)
    await world.result(creating, 50)
  })

  test('deleteTopic resolves when this client no longer holds it', async () => {
    const { world, mill } = begin()
    const orders = await world.result(admin(mill).deleteTopic('orders'))
    expect(orders).toEqual({ topicId: 1 })
    expect(await world.failure(mill.producer(Orders).send('a', { n: 1 }))).toMatchObject({
      code: 'ERR_MILLRACE_UNKNOWN_TOPIC',
    })
    expect(await world.failure(admin(mill).deleteTopic('orders'))).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_TOPIC' })
  })

  test('refusals are typed', async () => {
    const { world, mill } = begin()
    expect(await world.failure(admin(mill).createTopic('orders'))).toMatchObject({ code: 'ERR_MILLRACE_TOPIC_EXISTS' })
    expect(await world.failure(admin(mill).listTopics())).toMatchObject({ code: 'ERR_MILLRACE_UNKNOWN_OPERATION' })
    for (const name of ['', 'a/b', '..', 'x'.repeat(250)]) {
      expect(await world.failure(admin(mill).createTopic(name))).toMatchObject({
        code: 'ERR_MILLRACE_INVALID_TOPIC_NAME',
      })
    }
    expect(await world.failure(admin(mill).createTopic('t', { partitions: 0 }))).toMatchObject({
      code: 'ERR_MILLRACE_INVALID_ARGUMENT',
    })
    for (const limits of [{ retentionMs: 0 }, { retentionBytes: 1.5 }, { retentionMs: '7d' } as object]) {
      expect(await world.failure(admin(mill).createTopic('t', limits))).toMatchObject({
        code: 'ERR_MILLRACE_INVALID_ARGUMENT',
      })
    }
    for (const wrong of [{ replicas: 0 }, { replicas: 1.5 }, { copies: 3 } as object]) {
      expect(await world.failure(admin(mill).createTopic('t', wrong))).toMatchObject({
        code: 'ERR_MILLRACE_INVALID_ARGUMENT',
      })
    }
    expect(() => admin({} as Mill)).toThrow('connect()')
  })
})

describe('answers', () => {
  const offsets = { logStartOffset: 3, highWatermark: 4 }
  const replicas = [
    { nodeId: 1, matchIndex: 9, lagBatches: 0, isLearner: false },
    { nodeId: 2, matchIndex: null, lagBatches: null, isLearner: true },
  ]
  const partition = { partition: 0, leader: 1, term: 1, replicas, ...offsets }
  const retention = { retentionMs: 5, retentionBytes: null }
  const topic = { topicId: 1, name: 'orders', durability: 'flushed', codecs: ['none', 'gzip'], ...retention }

  test('describeTopic, listTopics, brokerStatus', async () => {
    const described = answering({ ...topic, partitions: [partition], later: 'more' })
    expect(await described.world.result(admin(described.mill).describeTopic('orders'))).toEqual({
      ...topic,
      // Core and placement stand in the map of this client, when it knows the route that the broker means.
      partitions: [{ ...partition, shard: 0, placement: 0, bytesOnDisk: null }],
    })
    const listed = answering({ topics: [{ ...topic, partitions: 6 }] })
    expect(await listed.world.result(admin(listed.mill).listTopics())).toEqual([{ ...topic, partitions: 6 }])
    const status = {
      nodeId: 1,
      clusterId: 'c',
      environment: 'ring',
      uptimeMs: 2 ** 40,
      version: '0.1.0',
      memory: { usedBytes: 1 },
    }
    const stated = answering(status)
    expect(await stated.world.result(admin(stated.mill).brokerStatus())).toEqual(status)
  })

  test('clusterStatus', async () => {
    const life = 'alive'
    const load = { bytesPerSecond: 5, freeDiskBytes: 2 ** 40, partitionsLed: 3 }
    const unknown = { life: null, lifeForMs: null, load: null }
    const status = {
      clusterId: 'c',
      nodes: [
        { nodeId: 1, host: 'a', port: 1, alive: true, heardMsAgo: 0, partitionsLed: 3, life, lifeForMs: 7, load },
        { nodeId: 2, host: 'b', port: 2, alive: false, heardMsAgo: null, partitionsLed: 0, ...unknown },
      ],
      metadata: { leader: 1, term: 4, version: 17 },
      underReplicated: 3,
      leaderless: 0,
      lacking: [{ nodeId: 2, topic: 'orders', partition: 1, reason: 'damaged' }],
    }
    const stated = answering({ ...status, later: 'more' })
    expect(await stated.world.result(admin(stated.mill).clusterStatus())).toEqual(status)
    const { lacking: _, ...older } = status
    const silent = answering(older)
    expect(await silent.world.result(admin(silent.mill).clusterStatus())).toMatchObject({ lacking: [] })
    for (const wrong of [
      { ...status, metadata: 7 },
      { ...status, leaderless: [] },
      { ...status, lacking: [{}] },
      { ...status, nodes: [{}] },
      { ...status, nodes: [{ ...status.nodes[0], life: 'undead' }] },
      { ...status, nodes: [{ ...status.nodes[0], load: 7 }] },
    ]) {
      const odd = answering(wrong)
      expect(await odd.world.failure(admin(odd.mill).clusterStatus())).toMatchObject({
        code: 'ERR_MILLRACE_CORRUPT_FRAME',
      })
    }
  })

  test.each([
    ['no MessagePack', new Uint8Array([0xc1])],
    ['two values', new Uint8Array([1, 2])],
    ['no map', [1, 2]],
    ['nothing', new Uint8Array(0)],
    ['a field missing', { name: 'orders' }],
    ['a field of another type', { ...topic, topicId: 'one', partitions: [] }],
    ['an unknown durability', { ...topic, durability: 'perhaps', partitions: [] }],
    ['partitions that are none', { ...topic, partitions: [7] }],
  ])('%s cannot be read, and that is told', async (_what, reply) => {
    const { world, mill } = answering(reply)
    const error = await world.failure(admin(mill).describeTopic('orders'))
    expect(MillraceError.is(error) && error.code).toBe('ERR_MILLRACE_CORRUPT_FRAME')
  })
})

describe('trouble', () => {
  test('a control connection that is lost on the way, and one that is down at the moment', async () => {
    const { world, cluster, mill } = begin()
    await world.result(mill.ready())
    let cut = false
    cluster.brokers[0]!.intercept = (connection, header) => {
      if (header.kind !== adminRequest.kind || cut) return false
      cut = true
      connection.cut()
      return true
    }
    const lost = await world.failure(admin(mill).createTopic('new'))
    expect(lost).toMatchObject({ code: 'ERR_MILLRACE_CONNECTION', retriable: true, outcome: 'unknown' })
    expect(String(lost)).toContain('whether createTopic was done is unknown')
    // The next one waits until the connection is back.
    await world.result(admin(mill).createTopic('new'))
  })

  test('what was surely not done is asked again, of whichever broker the control connection goes to then', async () => {
    const { world, cluster, mill } = begin({ brokers: 2, partitions: 0 })
    let asked = 0
    for (const broker of cluster.brokers) {
      broker.intercept = (connection, header) => {
        if (header.kind !== adminRequest.kind || ++asked > 2) return false
        const codes = ['OVERLOADED', 'DEADLINE_EXCEEDED'] as const
        const code = ERROR_TABLE[codes[asked - 1]!].code
        const payload = new Uint8Array(0)
        connection.send(adminReply, { code, mapVersion: 1, detail: 'not now', payload }, header.id)
        return true
      }
    }
    expect(await world.result(admin(mill).createTopic('new'))).toMatchObject({ name: 'new' })
    expect(asked).toBe(3)
  })

  test('a change for which no leader was found may have been made all the same', async () => {
    const { world, mill } = answering({}, ERROR_TABLE.NOT_LEADER.code)
    expect(await world.failure(admin(mill).createTopic('new'))).toMatchObject({
      code: 'ERR_MILLRACE_NOT_LEADER',
      outcome: 'unknown',
      retriable: true,
    })
  })

  test('what only looks is asked again after a loss', async () => {
    const setting = answering({ topics: [] })
    const [broker] = setting.cluster.brokers
    const answer = broker!.intercept
    let cuts = 0
    broker!.intercept = (connection, header, payload) => {
      if (header.kind !== adminRequest.kind || ++cuts > 2) return answer(connection, header, payload)
      connection.cut()
      return true
    }
    expect(await setting.world.result(admin(setting.mill).listTopics())).toEqual([])
    expect(cuts).toBe(3)
  })

  test('no answer in time', async () => {
    const { world, cluster, mill } = begin({ requestTimeoutMs: 2_000 })
    cluster.brokers[0]!.intercept = (_connection, header) => header.kind === adminRequest.kind
    expect(await world.failure(admin(mill).listTopics())).toMatchObject({
      code: 'ERR_MILLRACE_TIMEOUT',
      retriable: true,
    })
  })

  test('requests carry the version of the map that this client has seen', async () => {
    const { world, cluster, mill } = begin()
    cluster.version = 41
    cluster.addTopic('another', 1)
    const seen: { operation: number; mapVersion: number }[] = []
    cluster.brokers[0]!.intercept = (_connection, header, payload) => {
      if (header.kind === adminRequest.kind) seen.push(adminRequest.decode(new Reader(payload)))
      return false
    }
    await world.failure(admin(mill).listTopics())
    expect(seen).toMatchObject([{ operation: ADMIN_OPERATIONS.listTopics, mapVersion: 42 }])
  })
})
