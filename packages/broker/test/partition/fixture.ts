// A partition over an in-memory log, with a clock the test moves and sinks that remember.
import { type Acks, type BatchIdentity, type CodecName, crc32, type Durability } from '@millrace/protocol'
import { NO_ROUTE } from '#src/cluster/leader-table.js'
import { NO_PEERS } from '#src/cluster/no-peers.js'
import type { Block, Clock, Memory, Timer } from '#src/environment.js'
import { Metrics } from '#src/metrics.js'
import type { Retention } from '#src/partition/log-start-proposal.js'
import { Partition } from '#src/partition/partition.js'
import { PartitionState } from '#src/partition/partition-state.js'
import { type BatchSink, PendingBatch, type Refusal } from '#src/partition/pending-batch.js'
import { CatchUpPace } from '#src/replication/catch-up-pace.js'
import { GroupConfigurations } from '#src/replication/group-configurations.js'
import type { GroupOwner } from '#src/replication/group-ports.js'
import { ReplicaGroup } from '#src/replication/replica-group.js'
import { batchOf, type TestRecord } from '../server/batches.js'
import { blockOf, type MemoryDisk, type MemoryLog, MemoryLogStore, newMemoryDisk } from './memory-log.js'

export class TestClock implements Clock {
  nowMs = 1_000
  wall = 1_700_000_000_000
  readonly #deferred: (() => void)[] = []
  #timers: { at: number; callback: () => void }[] = []

  monotonicMs(): number {
    return this.nowMs
  }
  wallMs(): number {
    return this.wall
  }
  /** Timers that have neither fired nor been cancelled. */
  get waiting(): number {
    return this.#timers.length
  }
  timer(delayMs: number, callback: () => void): Timer {
    const timer = { at: this.nowMs + delayMs, callback }
    this.#timers.push(timer)
    return { cancel: () => void this.#timers.splice(this.#timers.indexOf(timer) >>> 0, 1) }
  }
  defer(callback: () => void): void {
    this.#deferred.push(callback)
  }
  /** Ends the turn, and those that follow from it. */
  turn(): void {
    while (this.#deferred.length > 0) for (const callback of this.#deferred.splice(0)) callback()
  }
  /** Lets time pass: timers that are due fire, each in a turn of its own. */
  advance(ms: number): void {
    const until = this.nowMs + ms
    while (true) {
      const due = this.#timers.filter(({ at }) => at <= until).sort((a, b) => a.at - b.at)[0]
      if (due === undefined) break
      this.#timers.splice(this.#timers.indexOf(due), 1)
      this.nowMs = Math.max(this.nowMs, due.at)
      due.callback()
      this.turn()
    }
    this.nowMs = until
  }
}

/** Memory of unlimited size on the heap. */
export const heapMemory: Memory = {
  budgetBytes: Number.MAX_SAFE_INTEGER,
  usedBytes: 0,
  allocate: (byteLength) => blockOf(new Uint8Array(Math.ceil(byteLength / 4096) * 4096)),
  release: () => {},
  checksum: (block, offset, length, seed) => crc32(block.bytes.subarray(offset, offset + length), seed),
  copyWithChecksum: (target, targetOffset, source, sourceOffset, length, seed) => {
    const bytes = source.bytes.subarray(sourceOffset, sourceOffset + length)
    target.bytes.set(bytes, targetOffset)
    return crc32(bytes, seed)
  },
}

/** What became of one batch. */
export class Outcome implements BatchSink {
  constructor(readonly acks: Acks = 'all') {}
  taken_ = 0
  refusal: Refusal | null = null
  baseOffset: number | null = null
  appendTime = 0
  settledTimes = 0

  taken(): void {
    this.taken_++
  }
  settled(batch: PendingBatch, refusal: Refusal | null): void {
    this.settledTimes++
    this.refusal = refusal
    this.baseOffset = batch.baseOffset
    this.appendTime = batch.appendTime
  }
  get code(): string {
    if (this.settledTimes === 0) return 'pending'
    return this.refusal?.code ?? 'OK'
  }
}

/** A group without others, whose votes are kept in memory. */
export function groupOf(
  owner: GroupOwner,
  log: MemoryLog,
  clock: TestClock,
  { durability, term }: { readonly durability: Durability; readonly term: number },
): ReplicaGroup {
  return new ReplicaGroup({
    key: log.key,
    nodeId: 1,
    configuration: { voters: [1], outgoing: [], learners: [] },
    configurations: new GroupConfigurations(),
    log,
    mode: durability === 'flushed' ? 'flush' : 'write',
    isRepairing: false,
    leastTerm: 0,
    votes: { find: () => ({ term: term - 1, votedFor: 0 }), save: async () => {} },
    catchUp: new CatchUpPace(clock, 1024 * 1024 * 1024),
    peers: NO_PEERS,
    sets: { offer() {}, woke() {}, forget() {} },
    owner,
    clock,
    memory: heapMemory,
    random: () => 0,
    damagedOnTheWay: () => {},
    repaired: () => {},
    elected: () => {},
    needsTicksChanged: () => {},
    report: (error) => {
      throw error
    },
  })
}

export interface PartitionFixture {
  readonly partition: Partition
  readonly log: MemoryLog
  readonly store: MemoryLogStore
  readonly state: PartitionState
  readonly clock: TestClock
  readonly metrics: Metrics
  /** Sends bytes as a batch. */
  sendBytes(bytes: Uint8Array, options?: { expiresAtMs?: number; length?: number }): Outcome
  /** Sends a well-formed batch. */
  send(sequence: number, identity?: Partial<BatchIdentity>, records?: readonly TestRecord[] | number): Outcome
}

export async function openPartition(
  options: {
    durability?: Durability
    codecs?: readonly CodecName[]
    disk?: MemoryDisk
    term?: number
    flush?: 'turn' | 'manual'
    retention?: Retention
  } = {},
): Promise<PartitionFixture> {
  const clock = new TestClock()
  const store = new MemoryLogStore({ clock }, options.disk ?? newMemoryDisk(), { flush: options.flush ?? 'manual' })
  const state = new PartitionState()
  const log = await store.open({ topicId: 1, partition: 0, lane: 0 }, state)
  const metrics = new Metrics()
  const durability = options.durability ?? 'flushed'
  const partition = new Partition({
    log,
    state,
    nodeId: 1,
    wasSole: true,
    knownRoute: () => NO_ROUTE,
    onLeadership: () => {},
    durability,
    codecs: options.codecs ?? ['none', 'gzip'],
    retention: options.retention ?? { retentionMs: null, retentionBytes: null },
    clock,
    memory: heapMemory,
    metrics,
  })
  const group = groupOf(partition, log, clock, { durability, term: options.term ?? 1 })
  partition.join(group)
  group.start()
  // The vote is durable, then the batch that begins the term.
  await new Promise((resolve) => setImmediate(resolve))
  log.complete()
  const sendBytes: PartitionFixture['sendBytes'] = (bytes, { expiresAtMs, length } = {}) => {
    const outcome = new Outcome()
    const block: Block = blockOf(bytes)
    partition.append(
      new PendingBatch(outcome, 0, block, 0, length ?? bytes.length, expiresAtMs ?? Number.POSITIVE_INFINITY),
    )
    return outcome
  }
  return {
    partition,
    log,
    store,
    state,
    clock,
    metrics,
    sendBytes,
    send: (sequence, identity = {}, records = 1) => sendBytes(batchOf(records, { sequence, ...identity })),
  }
}
