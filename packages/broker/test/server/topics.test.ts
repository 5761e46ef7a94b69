// Topics over the wire: created, described, deleted and created again; what follows for producers, cursors and the map.
import { mapDelta, mapSnapshot, mapSubscribe, produceReply } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { Topics } from '#src/cluster/topics.js'
import { MAX_PARTITIONS } from '#src/limits.js'
import { StorageError } from '#src/storage/log-store.js'
import { batchOf } from './batches.js'
import { startInMemory } from './in-memory-server.js'
import { RawClient } from './raw-client.js'

describe('a topic', () => {
  it('has defaults', async () => {
    const { admin } = await startInMemory()
    expect(await admin('createTopic', { name: 'flights' })).toEqual({ topicId: 1, name: 'flights', partitions: 1 })
    expect(await admin('listTopics', {})).toEqual({
      topics: [
        {
          topicId: 1,
          name: 'flights',
          partitions: 1,
          replicas: 1,
          durability: 'flushed',
          codecs: ['none', 'gzip'],
          retentionMs: null,
          retentionBytes: null,
        },
      ],
    })
  })

  it('is described partition by partition', async () => {
    const { admin } = await startInMemory()
    const limits = { retentionMs: 86_400_000, retentionBytes: 2 ** 40 }
    await admin('createTopic', { name: 'flights', partitions: 2, durability: 'buffered', codecs: ['none'], ...limits })
    const replicas = [{ nodeId: 1, matchIndex: 1, lagBatches: 0, isLearner: false }]
    const route = { leader: 1, nodeId: 1, shard: 0, term: 1 }
    const partition = { ...route, replicas, logStartOffset: 0, highWatermark: 0, bytesOnDisk: expect.any(Number) }
    expect(await admin('describeTopic', { name: 'flights' })).toEqual({
      topicId: 1,
      name: 'flights',
      partitions: [
        { partition: 0, ...partition },
        { partition: 1, ...partition },
      ],
      replicas: 1,
      durability: 'buffered',
      codecs: ['none'],
      ...limits,
    })
  })

  it('that is created again is another one', async () => {
    const { admin, open, settle, store } = await startInMemory()
    await admin('createTopic', { name: 'flights', partitions: 2 })
    const stream = open()
    stream.receive(RawClient.produceFrame([batchOf(3)], { id: 1 }))
    await settle()
    expect(await admin('deleteTopic', { name: 'flights' })).toEqual({ topicId: 1 })
    expect(await admin('createTopic', { name: 'flights' })).toMatchObject({ topicId: 2 })
    stream.receive(RawClient.produceFrame([batchOf(3), batchOf(1, { topicId: 2 })], { id: 2 }))
    await settle()
    const [, reply] = stream.take(produceReply)
    expect(reply?.results).toMatchObject([{ code: 35 }, { code: 0, baseOffset: 0 }])
    expect([...store.disk.logs.keys()].sort()).toEqual(['0/0/0', '2/0/0'])
  })

  it('outlives the late deletion of one that had its name before', async () => {
    const { admin, context } = await startInMemory()
    const { metadata } = context
    await admin('createTopic', { name: 'flights' })
    const perform = metadata.perform.bind(metadata)
    // The first one waits for somebody to lead the metadata.
    let lead = (): void => {}
    const led = new Promise<void>((resolve) => {
      lead = resolve
    })
    const asked = new Promise<void>((resolve) => {
      metadata.perform = async (...operation) => {
        metadata.perform = perform
        resolve()
        await led
        return perform(...operation)
      }
    })
    const late = admin('deleteTopic', { name: 'flights' })
    late.catch(() => {})
    await asked
    await admin('deleteTopic', { name: 'flights' })
    expect(await admin('createTopic', { name: 'flights' })).toMatchObject({ topicId: 2 })
    lead()
    await expect(late).rejects.toThrow('topic flights was deleted already, and made again since')
    expect(await admin('listTopics', {})).toMatchObject({ topics: [{ topicId: 2 }] })
  })

  it('is dropped also where its end and that others have dropped it are heard of at once', async () => {
    const { admin, metadata, settle, store, context } = await startInMemory()
    await admin('createTopic', { name: 'flights', partitions: 2 })
    expect([...store.disk.logs.keys()].sort()).toEqual(['0/0/0', '1/0/0', '1/1/0'])
    const ends = [
      metadata.propose(() => ({ kind: 'deleteTopic', topicId: 1 })),
      metadata.propose(() => ({ kind: 'topicDropped', topicId: 1 })),
    ]
    await settle()
    await Promise.all(ends)
    await settle()
    expect(context.shard.hasTopic(1)).toBe(false)
    expect([...store.disk.logs.keys()]).toEqual(['0/0/0'])
  })

  it('is in the map when its creation is answered', async () => {
    const { admin, open } = await startInMemory()
    const stream = open()
    stream.send(mapSubscribe, {}, 3)
    expect(stream.take(mapSnapshot, 3)).toMatchObject([{ topics: [] }])
    await admin('createTopic', { name: 'flights', partitions: 2 })
    const route = { nodeId: 1, shard: 0, placement: 0, term: 1 }
    expect(stream.take(mapDelta, 3)).toMatchObject([
      { sequence: 1, topics: [{ topicId: 1, name: 'flights', routes: [route, route] }] },
    ])
    await admin('deleteTopic', { name: 'flights' })
    expect(stream.take(mapDelta, 3)).toMatchObject([{ sequence: 2, removedTopics: [1] }])
  })

  it('that cannot be opened is taken back', async () => {
    const { admin, store } = await startInMemory()
    const open = store.open.bind(store)
    store.open = async (key, state) => {
      if (key.partition === 2) throw new StorageError('DISK_FULL', 'no slot is left')
      return open(key, state)
    }
    await expect(admin('createTopic', { name: 'flights', partitions: 4 })).rejects.toThrow('no slot is left')
    expect(await admin('listTopics', {})).toEqual({ topics: [] })
    expect([...store.disk.logs.keys()]).toEqual(['0/0/0'])
    store.open = open
    expect(await admin('createTopic', { name: 'flights', partitions: 4 })).toMatchObject({ topicId: 2 })
  })

  it('is not created beyond the limit of partitions', async () => {
    const { admin } = await startInMemory()
    await admin('createTopic', { name: 'a', partitions: 10_000 })
    await admin('createTopic', { name: 'b', partitions: MAX_PARTITIONS - 10_000 })
    await expect(admin('createTopic', { name: 'c' })).rejects.toThrow(`the limit is ${MAX_PARTITIONS}`)
  })

  it('is created once by two who ask at the same time', async () => {
    const { admin } = await startInMemory()
    const results = await Promise.allSettled([
      admin('createTopic', { name: 'flights' }),
      admin('createTopic', { name: 'flights' }),
    ])
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected'])
    expect(await admin('listTopics', {})).toMatchObject({ topics: [{ topicId: 1 }] })
  })
})

describe('a start', () => {
  it('finishes a deletion that was interrupted', async () => {
    const { admin, store, context } = await startInMemory()
    await admin('createTopic', { name: 'flights', partitions: 2 })
    store.drop = () => Promise.reject(new StorageError('STORAGE_FAILED', 'the power went'))
    await expect(admin('deleteTopic', { name: 'flights' })).rejects.toThrow('the power went')
    expect(store.disk.logs.has('1/0/0')).toBe(true)
    const again = await startInMemory({ disk: store.disk })
    await again.startTopics()
    expect([...store.disk.logs.keys()]).toEqual(['0/0/0'])
    expect(await again.admin('listTopics', {})).toEqual({ topics: [] })
    expect(context.topics).toBeInstanceOf(Topics)
  })

  it('keeps logs of topics that nobody knows, and counts them', async () => {
    const { store, admin } = await startInMemory()
    await admin('createTopic', { name: 'flights' })
    await store.open(
      { topicId: 99, partition: 3, lane: 0 },
      { encodeState: () => new Uint8Array(0), restoreState() {}, replay() {} },
    )
    const again = await startInMemory({ disk: store.disk })
    await again.startTopics()
    expect(again.metrics.unknownLogs).toBe(1)
    expect(again.errors).toMatchObject([{ logs: 1, first: { topicId: 99, partition: 3 } }])
    expect(store.disk.logs.has('99/3/0')).toBe(true)
  })

  it('of a member calls no log unknown that it may hear of, and counts it no longer once it has', async () => {
    const { store } = await startInMemory()
    const state = { encodeState: () => new Uint8Array(0), restoreState() {}, replay() {} }
    await store.open({ topicId: 1, partition: 0, lane: 0 }, state)
    const again = await startInMemory({ disk: store.disk, others: [2] })
    await again.startTopics()
    expect([again.metrics.unknownLogs, again.errors]).toEqual([1, []])
    expect(await again.admin('createTopic', { name: 'flights' })).toMatchObject({ topicId: 1 })
    expect(again.metrics.unknownLogs).toBe(0)
  })
})
