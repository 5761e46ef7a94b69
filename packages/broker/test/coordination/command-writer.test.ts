// Commands on their way into a log that is slow, full or lost; on a log and a clock the test moves.
import { describe, expect, it } from 'vitest'
import { CommandWriter, type Committed } from '#src/coordination/command-writer.js'
import { readGroups } from '#src/coordination/logged-groups.js'
import type { Memory } from '#src/environment.js'
import { encodeGroupCommand, type GroupCommand } from '#src/groups/group-command.js'
import { MAX_GROUP_COMMANDS_WAITING } from '#src/limits.js'
import { StorageError } from '#src/storage/log-store.js'
import { heapMemory, openPartition, type PartitionFixture } from '../partition/fixture.js'

interface Setting extends PartitionFixture {
  readonly writer: CommandWriter
  readonly memory: { hasRoom: boolean }
  readonly committedBatches: number[]
  readonly bugs: unknown[]
  /** What became of the records, by their names. */
  readonly ends: Map<string, Committed | string>
  write(name: string, command?: GroupCommand, expiresAtMs?: number): void
  record(name: string, command?: GroupCommand, expiresAtMs?: number): Parameters<CommandWriter['write']>[0]
  /** The turn ends, and what was appended is flushed. */
  commit(): void
}

const topic = (topicId: number): GroupCommand => ({ kind: 'topic', topicId, partitions: 3 })

async function start(): Promise<Setting> {
  const fixture = await openPartition({ term: 7 })
  const { partition, clock, log } = fixture
  const memory = { hasRoom: true }
  const limited: Memory = { ...heapMemory, allocate: (bytes) => (memory.hasRoom ? heapMemory.allocate(bytes) : null) }
  const committedBatches: number[] = []
  const bugs: unknown[] = []
  const writer = new CommandWriter({
    partition,
    environment: { clock, memory: limited },
    batchCommitted: (bytes) => committedBatches.push(bytes),
    report: (error) => bugs.push(error),
  })
  const ends = new Map<string, Committed | string>()
  const record: Setting['record'] = (name, command = topic(1), expiresAtMs = Number.POSITIVE_INFINITY) => ({
    value: encodeGroupCommand(command),
    expiresAtMs,
    committed: (where) => ends.set(name, where),
    refused: ({ code }) => ends.set(name, code),
  })
  return {
    ...fixture,
    writer,
    memory,
    committedBatches,
    bugs,
    ends,
    record,
    write: (...named) => writer.write(record(...named)),
    commit: () => {
      clock.turn()
      log.complete()
      clock.turn()
    },
  }
}

describe('commands', () => {
  it('of a turn are one batch, and those that come meanwhile the next', async () => {
    const { write, commit, ends, log, committedBatches, clock } = await start()
    const before = log.batches.length
    write('a')
    write('b')
    clock.turn()
    write('c')
    clock.turn()
    expect(log.batches).toHaveLength(before + 1)
    expect(ends.size).toBe(0)
    commit()
    expect([...ends.keys()]).toEqual(['a', 'b'])
    expect(ends.get('a')).toEqual(ends.get('b'))
    commit()
    expect(ends.get('c')).toMatchObject({ index: before + 2, baseOffset: 2 })
    expect(committedBatches).toHaveLength(2)
    expect(log.batches.slice(before).map(({ header }) => [header.producer[3], header.epoch, header.sequence])).toEqual([
      [7, 0, 0],
      [7, 1, 0],
    ])
  })

  it('that the disk refuses leave the way free for the next', async () => {
    const { write, commit, ends, log } = await start()
    log.nextAppendError = new StorageError('DISK_FULL', 'no space')
    write('a')
    commit()
    expect(ends.get('a')).toBe('DISK_FULL')
    write('b')
    commit()
    expect(ends.get('b')).toMatchObject({ baseOffset: 0 })
  })

  it('are refused without memory, when they are late, and when too many wait', async () => {
    const { write, commit, ends, memory, clock } = await start()
    memory.hasRoom = false
    write('poor')
    commit()
    expect(ends.get('poor')).toBe('OVERLOADED')
    memory.hasRoom = true
    write('late', topic(1), clock.nowMs - 1)
    write('timely', topic(1), clock.nowMs)
    commit()
    expect(ends.get('late')).toBe('DEADLINE_EXCEEDED')
    expect(ends.get('timely')).toMatchObject({ baseOffset: 0 })
    for (let i = 0; i < MAX_GROUP_COMMANDS_WAITING; i++) write(`${i}`)
    write('too many')
    expect(ends.get('too many')).toBe('OVERLOADED')
    expect(ends.has('0')).toBe(false)
  })

  it('have an unknown end when the leader is lost, and a certain one afterwards', async () => {
    const { write, writer, ends, clock, log } = await start()
    write('under way')
    clock.turn()
    write('waiting')
    writer.stop({ code: 'NOT_LEADER', detail: '' })
    expect([...ends]).toEqual([
      ['under way', 'NOT_LEADER'],
      ['waiting', 'NOT_LEADER'],
    ])
    write('after')
    expect(ends.get('after')).toBe('NOT_LEADER')
    log.complete()
    expect(ends.get('under way')).toBe('NOT_LEADER')
  })

  it('stop when one who hears of them fails, which is told', async () => {
    const { write, writer, record, commit, bugs, ends } = await start()
    const broken = { ...record('a'), committed: () => expect.fail('a bug') }
    writer.write(broken)
    write('b')
    commit()
    expect(bugs).toHaveLength(1)
    write('c')
    expect(ends.get('c')).toBe('INTERNAL')
  })
})

describe('an image', () => {
  const part = (at: number, topics: readonly number[]): GroupCommand => ({
    kind: 'image',
    image: {
      epochFloor: 0,
      topics: topics.map((topicId) => ({ topicId, partitions: 5 })),
      groups: [],
      part: at,
      parts: 2,
    },
  })

  it('comes before all that wait', async () => {
    const { write, writer, record, commit, partition, ends } = await start()
    write('a', topic(1))
    commit()
    write('later', topic(9))
    writer.writeFirst([record('first', part(0, [2])), record('second', part(1, []))])
    commit()
    expect(ends.get('first')).toMatchObject({ baseOffset: 1 })
    const { state } = await readGroups(partition)
    expect(state.topics()).toEqual([
      { topicId: 2, partitions: 5 },
      { topicId: 9, partitions: 3 },
    ])
  })

  it('is given up as a whole when a part of it is refused', async () => {
    const { write, writer, record, commit, ends, log, partition } = await start()
    write('a', topic(1))
    commit()
    log.nextAppendError = new StorageError('DISK_FULL', 'no space')
    // So long that the second part is in another batch.
    const first = { ...record('first'), value: new Uint8Array(400_000) }
    writer.writeFirst([first, record('second', part(1, []))])
    commit()
    expect([ends.get('first'), ends.get('second')]).toEqual(['DISK_FULL', 'DISK_FULL'])
    write('b', topic(3))
    commit()
    const { state } = await readGroups(partition)
    expect(state.topics().map(({ topicId }) => topicId)).toEqual([1, 3])
  })
})

describe('a log that is read', () => {
  it('counts for nothing what breaks off, and is refused when a newer version wrote it', async () => {
    const { write, commit, partition, record, writer } = await start()
    write('a', topic(4))
    write('torn', { kind: 'image', image: { epochFloor: 0, topics: [], groups: [], part: 0, parts: 3 } })
    write('b', topic(5))
    commit()
    const { state } = await readGroups(partition)
    expect(state.topics().map(({ topicId }) => topicId)).toEqual([4, 5])
    writer.write({ ...record('newer'), value: Uint8Array.of(0x81, 0xa4, 0x6b, 0x69, 0x6e, 0x64, 0xa1, 0x7a) })
    commit()
    await expect(readGroups(partition)).rejects.toThrow('the group command z is unknown')
  })
})
