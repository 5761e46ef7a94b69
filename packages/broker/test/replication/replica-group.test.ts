// Replicas of one group, put together from the real core and in-memory logs: what is committed is the same everywhere, and
// a follower that cannot take what it is sent is no worse than one that was away.
import { crc32, readBatchHeader } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import type { HardState } from '#src/raft/raft-types.js'
import { CatchUpPace } from '#src/replication/catch-up-pace.js'
import { GroupConfigurations } from '#src/replication/group-configurations.js'
import type { GroupOwner, GroupPeers, LoggedEntry } from '#src/replication/group-ports.js'
import { ReplicaGroup } from '#src/replication/replica-group.js'
import { type LogKey, StorageError } from '#src/storage/log-store.js'
import { heapMemory, TestClock } from '../partition/fixture.js'
import { blockOf, type MemoryLog, MemoryLogStore, newMemoryDisk } from '../partition/memory-log.js'
import { batchOf } from '../server/batches.js'
import { entriesOf } from './changing-group.js'

const KEY = { topicId: 1, partition: 0, lane: 0 }
const TICK_MS = 50

class Owner implements GroupOwner {
  committedIndex = 0
  followed(_entry: LoggedEntry): void {}
  begun(): void {}
  truncated(): void {}
  installed(): void {}
  durable(): void {}
  changed(): void {}
  committed(index: number): void {
    expect(index).toBeGreaterThanOrEqual(this.committedIndex)
    this.committedIndex = index
  }
  stateToInstall(): Uint8Array {
    return new Uint8Array(0)
  }
}

interface Replica {
  readonly group: ReplicaGroup
  readonly log: MemoryLog
  readonly owner: Owner
  /** Whether there is room for its term and vote. */
  readonly voteDisk: { isFull: boolean }
}

/** Frames of entries that have not been given back. */
let framesHeld = 0

async function startGroup(
  count: number,
): Promise<{ replicas: Replica[]; clock: TestClock; run(ms: number): Promise<void> }> {
  const clock = new TestClock()
  const replicas: Replica[] = []
  const queue: (() => void)[] = []
  const voters = Array.from({ length: count }, (_, at) => at + 1)
  const peersOf = (from: number): GroupPeers => ({
    send: (to, _key, message) => void queue.push(() => replicas[to - 1]!.group.receive(message)),
    sendAppend: (to, _key, header, read) => {
      const bytes = Buffer.concat(
        read.pieces.map(({ block, offset, length }) => block.bytes.subarray(offset, offset + length)),
      )
      read.release()
      queue.push(() => {
        framesHeld++
        let released = false
        replicas[to - 1]!.group.receiveAppend({
          message: { ...header, entries: entriesOf(new Uint8Array(bytes)) },
          release: () => {
            if (released) throw new Error(`a frame of ${from} is given back twice`)
            released = true
            framesHeld--
          },
        })
      })
      return true
    },
    sendInstall: () => false,
  })
  for (const nodeId of voters) {
    const store = new MemoryLogStore({ clock }, newMemoryDisk(), { flush: 'turn' })
    const log = await store.open(KEY, { encodeState: () => new Uint8Array(0), restoreState() {}, replay() {} })
    const owner = new Owner()
    let vote: HardState | null = null
    const voteDisk = { isFull: false }
    const save = async (_key: LogKey, hardState: HardState): Promise<void> => {
      if (voteDisk.isFull) throw new StorageError('DISK_FULL', 'the test filled the disk')
      vote = hardState
    }
    const group = new ReplicaGroup({
      key: KEY,
      nodeId,
      configuration: { voters, outgoing: [], learners: [] },
      configurations: new GroupConfigurations(),
      log,
      mode: 'flush',
      isRepairing: false,
      leastTerm: 0,
      votes: { find: () => vote, save },
      catchUp: new CatchUpPace(clock, 1024 * 1024 * 1024),
      peers: peersOf(nodeId),
      sets: { offer: (offered, follower) => offered.wake(follower, 0), woke() {}, forget() {} },
      owner,
      clock,
      memory: heapMemory,
      random: (bound) => nodeId % bound,
      damagedOnTheWay: () => {},
      repaired: () => {},
      elected: () => {},
      needsTicksChanged: () => {},
      report: (error) => {
        throw error
      },
    })
    replicas.push({ group, log, owner, voteDisk })
  }
  const settle = async (): Promise<void> => {
    for (let i = 0; i < 20; i++) {
      for (const deliver of queue.splice(0)) deliver()
      clock.turn()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }
  for (const { group } of replicas) group.start()
  return {
    replicas,
    clock,
    async run(ms) {
      for (let at = 0; at < ms; at += TICK_MS) {
        clock.advance(TICK_MS)
        for (const { group } of replicas) group.tick()
        await settle()
      }
    },
  }
}

function append({ group, log }: Replica, sequence: number): void {
  const bytes = batchOf(2, { sequence })
  const block = blockOf(bytes)
  expect(group.append(block, 0, readBatchHeader(block.view, 0), log.filled.nextOffset, 5)).toBe(log.filled.index)
}

const contents = ({ log }: Replica): number[] => log.batches.map(({ bytes }) => crc32(bytes, 0))

describe('replicas of a group', () => {
  it('agree on what their leader appends', async () => {
    const { replicas, run } = await startGroup(3)
    await run(500)
    const leader = replicas.find(({ group }) => group.isServing)!
    expect(leader.group.core.nodeId).toBe(1)
    for (let sequence = 0; sequence < 20; sequence++) append(leader, sequence)
    await run(500)
    for (const replica of replicas) {
      expect(replica.owner.committedIndex).toBe(21)
      expect(contents(replica)).toEqual(contents(leader))
    }
    expect(leader.group.replicas()).toMatchObject(
      [1, 2, 3].map((nodeId) => ({ nodeId, matchIndex: 21, lagBatches: 0 })),
    )
    expect(framesHeld).toBe(0)
  })

  it('answers a read only when a majority has been heard after it was asked', async () => {
    const { replicas, run } = await startGroup(3)
    await run(500)
    let answered = false
    const read = replicas[0]!.group.readBarrier().then(() => {
      answered = true
    })
    await new Promise((resolve) => setImmediate(resolve))
    expect(answered).toBe(false)
    await run(500)
    await read
    await expect(replicas[1]!.group.readBarrier()).rejects.toThrow('does not lead')
  })

  it('that hands over leads no more, and another one does', async () => {
    const { replicas, run } = await startGroup(3)
    await run(500)
    expect(replicas[0]!.group.transferTo(2)).toBe(null)
    expect(replicas[0]!.group.mayAppend).toBe(false)
    await run(500)
    expect(replicas[0]!.group.isServing).toBe(false)
    expect(replicas.filter(({ group }) => group.isServing)).toHaveLength(1)
    expect(replicas[0]!.group.leads).toBe(false)
  })

  it('with a full disk gives back the memory of what it cannot take, and has everything once there is space', async () => {
    const { replicas, run } = await startGroup(3)
    await run(500)
    const [leader, , follower] = replicas as [Replica, Replica, Replica]
    const full = new StorageError('DISK_FULL', 'the test filled the disk')
    for (let sequence = 0; sequence < 30; sequence++) {
      follower.log.nextAppendError = full
      append(leader, sequence)
      await run(TICK_MS)
      expect(framesHeld).toBe(0)
    }
    expect(leader.owner.committedIndex).toBe(31)
    expect(contents(follower).length).toBeLessThan(31)
    follower.log.nextAppendError = null
    await run(1500)
    expect(contents(follower)).toEqual(contents(leader))
    expect(follower.owner.committedIndex).toBe(31)
    expect(leader.group.isServing).toBe(true)
  })

  it('whose first vote finds the disk full votes once there is space', async () => {
    const { replicas, run } = await startGroup(3)
    for (const { voteDisk } of replicas) voteDisk.isFull = true
    await run(3000)
    expect(replicas.some(({ group }) => group.leads)).toBe(false)
    for (const { voteDisk } of replicas) voteDisk.isFull = false
    await run(3000)
    expect(replicas.filter(({ group }) => group.isServing)).toHaveLength(1)
  })

  it('takes bytes damaged on the way for lost', async () => {
    const { replicas, run } = await startGroup(3)
    await run(500)
    const [leader, follower] = replicas as [Replica, Replica]
    append(leader, 0)
    const bytes = leader.log.batches.at(-1)!.bytes.slice()
    bytes[bytes.length - 1]! ^= 1
    let released = 0
    const { term, commitIndex, lastIndex } = leader.group.core
    follower.group.receiveAppend({
      message: {
        kind: 'append',
        from: 1,
        to: 2,
        term,
        previousIndex: lastIndex - 1,
        previousTerm: term,
        commit: commitIndex,
        round: 1,
        entries: entriesOf(bytes),
      },
      release: () => void released++,
    })
    expect(released).toBe(1)
    expect(follower.log.filled.index).toBe(lastIndex - 1)
    await run(500)
    expect(contents(follower)).toEqual(contents(leader))
  })
})
