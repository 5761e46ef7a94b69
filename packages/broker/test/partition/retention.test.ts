// Retention as the leader runs it: by control batches, in small steps, and never before they are committed.
import { describe, expect, it } from 'vitest'
import { RETENTION_PARTITIONS_PER_STEP, RETENTION_STEP_MS } from '#src/limits.js'
import type { Partition } from '#src/partition/partition.js'
import { RetentionLoop } from '#src/partition/retention-loop.js'
import { StorageError } from '#src/storage/log-store.js'
import { openPartition, TestClock } from './fixture.js'

/** Of one batch in the log in memory. */
const BATCH_BYTES = 150

describe('a partition', () => {
  it('moves its start once the control batch is committed', async () => {
    const { partition, log, send } = await openPartition({
      retention: { retentionMs: null, retentionBytes: 3 * BATCH_BYTES },
    })
    for (let i = 0; i < 10; i++) send(i)
    log.complete()
    partition.retain()
    expect(log.filled).toMatchObject({ index: 12, nextOffset: 10 })
    expect(partition.logStartOffset).toBe(0)
    partition.retain()
    expect(log.filled.index).toBe(12)
    log.complete()
    expect(partition.logStartOffset).toBeGreaterThan(4)
    expect(partition.highWatermark).toBe(10)
    expect(send(10).code).toBe('pending')
    log.complete()
    expect(partition.highWatermark).toBe(11)
  })

  it('of a buffered topic waits for the flush on disk, and is told before', async () => {
    const { partition, log, send } = await openPartition({
      durability: 'buffered',
      retention: { retentionMs: null, retentionBytes: 1 },
    })
    for (let i = 0; i < 5; i++) send(i)
    log.complete()
    partition.retain()
    log.complete('written')
    expect(partition.committedIndex).toBe(7)
    expect([partition.logStartOffset, log.startOffset]).toEqual([4, 0])
    log.complete('flushed')
    expect([partition.logStartOffset, log.startOffset]).toEqual([4, 4])
  })

  it('goes by the time at which batches were appended', async () => {
    const { partition, log, send, clock } = await openPartition({
      retention: { retentionMs: 1000, retentionBytes: null },
    })
    for (let i = 0; i < 4; i++) send(i, {}, [{ value: 'a', timestamp: 5 }])
    log.complete()
    clock.wall += 900
    send(4)
    log.complete()
    partition.retain()
    expect(log.filled.index).toBe(6)
    clock.wall += 200
    partition.retain()
    log.complete()
    expect(partition.logStartOffset).toBe(4)
    // A clock that goes back makes nothing younger, and nothing older either.
    clock.wall -= 100_000
    partition.retain()
    expect(log.filled.index).toBe(7)
  })

  it('knows its start again after a restart', async () => {
    const first = await openPartition({ retention: { retentionMs: null, retentionBytes: 1 } })
    for (let i = 0; i < 5; i++) first.send(i)
    first.log.complete()
    first.partition.retain()
    first.log.complete()
    const { disk } = first.store
    const again = await openPartition({ disk })
    expect(again.partition.logStartOffset).toBe(4)
    expect(again.partition.hasRetention).toBe(false)
    expect(again.send(4).code).toBe('OK')
  })

  it('writes nothing where there is no room, and nothing when it is closed', async () => {
    const { partition, log, send } = await openPartition({ retention: { retentionMs: null, retentionBytes: 1 } })
    for (let i = 0; i < 5; i++) send(i)
    log.complete()
    log.full = true
    partition.retain()
    expect(log.filled.index).toBe(6)
    log.makeRoom()
    partition.close({ code: 'SHUTTING_DOWN', detail: '' })
    partition.retain()
    expect(log.filled.index).toBe(6)
  })
})

describe('the loop', () => {
  const fake = (retain: () => void, hasRetention = true): Partition =>
    Object.assign(Object.create(null) as Partition, { hasRetention, retain })

  it('looks at a bounded number of partitions at a time, and at all of them in turn', () => {
    const clock = new TestClock()
    const seen = new Map<number, number>()
    const count = RETENTION_PARTITIONS_PER_STEP * 2 + 10
    const partitions = Array.from({ length: count }, (_, i) => fake(() => seen.set(i, (seen.get(i) ?? 0) + 1)))
    partitions.push(
      fake(() => {
        throw new Error('a topic that keeps everything is not asked')
      }, false),
    )
    const bugs: unknown[] = []
    const loop = new RetentionLoop(
      clock,
      () => partitions,
      (error) => bugs.push(error),
    )
    loop.start()
    clock.advance(RETENTION_STEP_MS)
    expect(seen.size).toBe(RETENTION_PARTITIONS_PER_STEP)
    clock.advance(2 * RETENTION_STEP_MS)
    expect([...seen.values()]).toEqual(new Array(count).fill(1))
    loop.stop()
    clock.advance(10 * RETENTION_STEP_MS)
    expect([...seen.values()]).toEqual(new Array(count).fill(1))
    expect(bugs).toEqual([])
  })

  it('goes on when one fails, and reports what is a bug', () => {
    const clock = new TestClock()
    let asked = 0
    const bugs: unknown[] = []
    const bug = new Error('a bug')
    const partitions = [
      fake(() => void asked++),
      fake(() => {
        throw new StorageError('DISK_FULL', 'no space')
      }),
      fake(() => {
        throw bug
      }),
      fake(() => void asked++),
    ]
    const loop = new RetentionLoop(
      clock,
      () => partitions,
      (error) => bugs.push(error),
    )
    loop.start()
    clock.advance(RETENTION_STEP_MS)
    expect(asked).toBe(2)
    expect(bugs).toEqual([bug])
    loop.stop()
  })
})
