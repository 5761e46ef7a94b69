// The metadata log: commands take effect once they are flushed, in order, and again after every restart.
import { describe, expect, it } from 'vitest'
import { decodeCommand, encodeCommand, type TopicDefinition } from '#src/cluster/metadata-command.js'
import { METADATA_KEY, MetadataLog } from '#src/cluster/metadata-log.js'
import { MetadataState } from '#src/cluster/metadata-state.js'
import { NO_PEERS } from '#src/cluster/no-peers.js'
import type { Environment } from '#src/environment.js'
import { encodeMessagePack } from '#src/message-pack.js'
import { Groups } from '#src/replication/groups.js'
import { RepairList } from '#src/replication/repair-list.js'
import { heapMemory, TestClock } from '../partition/fixture.js'
import { type MemoryDisk, type MemoryLog, MemoryLogStore, newMemoryDisk } from '../partition/memory-log.js'

const topic = (topicId: number, name = `topic-${topicId}`): TopicDefinition => ({
  topicId,
  name,
  partitions: 3,
  replicas: [[1], [1], [1]],
  founders: [[1], [1], [1]],
  durability: 'flushed',
  codecs: ['none', 'gzip'],
  retentionMs: null,
  retentionBytes: 1000,
})

function environmentOf(clock: TestClock): Environment {
  const unused = (): never => {
    throw new Error('there is no disk and no network here')
  }
  return {
    kind: 'simulated',
    clock,
    memory: heapMemory,
    log: { debug() {}, info() {}, warn() {}, error() {} },
    random: { uint32: () => 4, fill: (bytes) => void bytes.fill(4) },
    disk: { openVolume: unused },
    network: { listen: unused, dial: unused, datagrams: unused },
    crypto: { seal: unused, open: unused },
    cores: { self: 0, count: 1 },
    bootId: 'boot-1',
    close: async () => {},
  }
}

async function open(disk: MemoryDisk = newMemoryDisk(), flush: 'manual' | 'turn' = 'manual') {
  const clock = new TestClock()
  const store = new MemoryLogStore({ clock }, disk, { flush })
  const environment = environmentOf(clock)
  const report = (error: unknown): never => {
    throw error
  }
  const groups = new Groups({
    environment,
    nodeId: 1,
    starts: 1,
    votes: store.votes,
    pulse: store.pulse,
    peers: NO_PEERS,
    repairs: await RepairList.open(
      { readSmall: async () => null, writeSmall: async () => {} },
      { clock, log: environment.log, report },
    ),
    isLost: () => false,
    report,
  })
  const metadata = await MetadataLog.open(store, { memory: heapMemory, clock, groups, members: [1] })
  metadata.start()
  const log = store.logs.get('0/0/0') as MemoryLog
  // The vote is durable, then the batch that begins the term.
  await new Promise((resolve) => setImmediate(resolve))
  log.complete()
  const create = (name: string) =>
    metadata.propose((state) => {
      if (state.topicByName(name) !== undefined) throw new Error(`there is a topic ${name}`)
      return { kind: 'createTopic', topic: topic(state.nextTopicId, name) }
    })
  return { metadata, store, log, clock, create, disk, groups }
}

describe('the metadata log', () => {
  it('applies a command when it is flushed, not before', async () => {
    const { metadata, log, create } = await open()
    const applied: string[] = []
    metadata.onApplied = (command) => applied.push(command.kind)
    const created = create('flights')
    await Promise.resolve()
    log.complete('written')
    expect(metadata.state.topicByName('flights')).toBeUndefined()
    expect(metadata.version).toBe(0)
    log.complete('flushed')
    await created
    expect(metadata.state.topicByName('flights')).toMatchObject({ topicId: 1 })
    expect(metadata.version).toBe(2)
    expect(applied).toEqual(['createTopic'])
  })

  it('judges a command by what was proposed before it, flushed or not', async () => {
    const { log, create } = await open()
    const first = create('flights')
    const again = create('flights')
    const second = create('trains')
    await Promise.resolve()
    log.complete()
    await expect(first).resolves.toMatchObject({ topic: { topicId: 1 } })
    await expect(again).rejects.toThrow('there is a topic flights')
    await expect(second).resolves.toMatchObject({ topic: { topicId: 2 } })
  })

  it('knows what others may have changed before it says what there is, and says nothing once it does not lead', async () => {
    const { metadata, groups } = await open()
    await expect(metadata.catchUp()).resolves.toBeUndefined()
    groups.stop()
    await expect(metadata.catchUp()).rejects.toMatchObject({ code: 'NOT_LEADER' })
    const judged = metadata.propose(() => {
      throw new Error('there is no such topic')
    })
    await expect(judged).rejects.toMatchObject({ code: 'NOT_LEADER' })
  })

  it('refuses for what is committed only: it might never have been', async () => {
    const { log, create, metadata } = await open()
    const first = create('flights')
    const again = create('flights')
    let refused = false
    again.catch(() => {
      refused = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(refused).toBe(false)
    log.fail()
    await expect(first).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(again).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    expect(metadata.state.topics()).toEqual([])
  })

  it('refuses what was proposed when the disk fails', async () => {
    const { log, create, metadata } = await open()
    const created = create('flights')
    await Promise.resolve()
    log.fail()
    await expect(created).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    await expect(create('trains')).rejects.toMatchObject({ code: 'STORAGE_FAILED' })
    expect(metadata.state.topics()).toEqual([])
  })

  it('waits for room', async () => {
    const { log, create } = await open()
    log.full = true
    const created = create('flights')
    await Promise.resolve()
    expect(log.filled.index).toBe(1)
    log.makeRoom()
    await Promise.resolve()
    await Promise.resolve()
    log.complete()
    await created
    expect(log.filled.index).toBe(2)
  })

  it.each([
    ['from its commands', false],
    ['from a checkpoint and the commands behind it', true],
  ])('comes back %s', async (_name, checkpoint) => {
    const before = await open(newMemoryDisk(), 'manual')
    const proposals = ['a', 'b'].map((name) => before.create(name))
    await Promise.resolve()
    before.log.complete()
    await Promise.all(proposals)
    if (checkpoint) before.store.checkpoint()
    const removed = before.metadata.propose((state) => ({
      kind: 'deleteTopic',
      topicId: state.topicByName('a')!.topicId,
    }))
    await Promise.resolve()
    before.log.complete()
    await removed

    const after = await open(before.disk)
    expect(after.metadata.state.image()).toEqual(before.metadata.state.image())
    expect(after.metadata.version).toBe(4)
    expect(after.metadata.state.dropping().map(({ name }) => name)).toEqual(['a'])
    expect(after.metadata.state.nextTopicId).toBe(3)
  })

  it('is the log of topic 0', () => {
    expect(METADATA_KEY).toEqual({ topicId: 0, partition: 0, lane: 0 })
  })
})

describe('the metadata state', () => {
  it('never gives a topic id twice', () => {
    const state = new MetadataState()
    state.apply({ kind: 'createTopic', topic: topic(1, 'a') })
    state.apply({ kind: 'deleteTopic', topicId: 1 })
    expect(state.nextTopicId).toBe(2)
    state.apply({ kind: 'createTopic', topic: topic(1, 'b') })
    expect(state.topics()).toEqual([])
    state.apply({ kind: 'createTopic', topic: topic(2, 'a') })
    expect(state.topicByName('a')).toMatchObject({ topicId: 2 })
    expect(state.partitionCount).toBe(3)
  })

  it('changes nothing for a command that does not fit', () => {
    const state = new MetadataState()
    state.apply({ kind: 'bootstrap', clusterId: 'a'.repeat(32) })
    state.apply({ kind: 'createTopic', topic: topic(1, 'a') })
    const image = state.image()
    state.apply({ kind: 'bootstrap', clusterId: 'b'.repeat(32) })
    state.apply({ kind: 'createTopic', topic: topic(2, 'a') })
    state.apply({ kind: 'deleteTopic', topicId: 9 })
    state.apply({ kind: 'topicDropped', topicId: 9 })
    expect(state.image()).toEqual(image)
  })

  it('remembers a deleted topic until its logs are gone', () => {
    const state = new MetadataState()
    state.apply({ kind: 'createTopic', topic: topic(1) })
    state.apply({ kind: 'deleteTopic', topicId: 1 })
    expect(state.dropping()).toHaveLength(1)
    state.apply({ kind: 'topicDropped', topicId: 1 })
    expect(state.dropping()).toHaveLength(0)
  })
})

describe('a command', () => {
  it.each([
    { kind: 'bootstrap', clusterId: 'a'.repeat(32) },
    { kind: 'createTopic', topic: topic(7) },
    { kind: 'deleteTopic', topicId: 7 },
    { kind: 'topicDropped', topicId: 7 },
  ] as const)('$kind is read as it was written', (command) => {
    expect(decodeCommand(encodeCommand(command))).toEqual(command)
  })

  it.each([
    [{ kind: 'somethingNew' }, 'somethingNew is unknown'],
    [{ kind: 'deleteTopic', topicId: -1 }, 'topicId'],
    [{ kind: 'createTopic', topic: { ...topic(1), codecs: ['lz4'] } }, 'codecs'],
    [{ kind: 'createTopic', topic: { ...topic(1), durability: 'maybe' } }, 'durability'],
    [{ kind: 'createTopic', topic: null }, 'not a map'],
    [[1, 2], 'not a map'],
  ])('%j of another version is refused', (fields, message) => {
    expect(() => decodeCommand(encodeMessagePack(fields))).toThrow(message)
  })
})
