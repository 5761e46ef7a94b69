// A group whose members come and go, put together from real replicas over in-memory logs that survive crashes: everything that
// is committed anywhere is held against what was committed before, and every restart against what the log said of the group.
import { crc32, LOG_PART_BYTES, readBatchHeader, readLogPart } from '@millrace/protocol'
import { expect } from 'vitest'
import { PartitionState } from '#src/partition/partition-state.js'
import type { Configuration, NodeId } from '#src/raft/raft-types.js'
import { CatchUpPace } from '#src/replication/catch-up-pace.js'
import type { GroupOwner, GroupPeers, LoggedEntry } from '#src/replication/group-ports.js'
import { GroupState } from '#src/replication/group-state.js'
import { isAtTarget, nextChange } from '#src/replication/next-change.js'
import { configurationOf } from '#src/replication/raft-batch.js'
import { ReplicaGroup } from '#src/replication/replica-group.js'
import { sealLogStart } from '#src/storage/log-start.js'
import { heapMemory, TestClock } from '../partition/fixture.js'
import { blockOf, type MemoryDisk, type MemoryLog, MemoryLogStore, newMemoryDisk } from '../partition/memory-log.js'
import { batchOf } from '../server/batches.js'

const KEY = { topicId: 1, partition: 0, lane: 0 }
const TICK_MS = 50

class Owner implements GroupOwner {
  committedIndex = 0
  constructor(
    private readonly state: PartitionState,
    private readonly onCommit: (upTo: number) => void,
  ) {}
  followed({ part, header }: LoggedEntry): void {
    this.state.appended(header, part.baseOffset, part.index, part.appendTime)
  }
  begun(): void {}
  truncated(): void {}
  installed(): void {}
  durable(): void {}
  changed(): void {}
  committed(index: number): void {
    if (index <= this.committedIndex) return
    this.committedIndex = index
    this.onCommit(index)
  }
  stateToInstall(index: number): Uint8Array {
    return this.state.stateAt(index)
  }
}

export interface Running {
  readonly nodeId: NodeId
  readonly group: ReplicaGroup
  readonly log: MemoryLog
  readonly store: MemoryLogStore
  readonly owner: Owner
}

interface Message {
  readonly from: NodeId
  readonly to: NodeId
  readonly deliver: (to: ReplicaGroup) => void
}

export class ChangingGroup {
  readonly clock = new TestClock()
  readonly running = new Map<NodeId, Running>()
  /** Checksum of what is committed at each index: the same on every node, for ever. */
  readonly committed = new Map<number, number>()
  readonly #disks = new Map<NodeId, MemoryDisk>()
  readonly #cut = new Set<NodeId>()
  #messages: Message[] = []
  #sequence = 0

  constructor(
    /** Whom the group begins with; any other node opens its log without knowing anybody. */
    private readonly founders: readonly NodeId[],
    private readonly random: (bound: number) => number = chance(1),
  ) {}

  async start(nodeId: NodeId): Promise<Running> {
    const disk = this.#disks.get(nodeId) ?? newMemoryDisk()
    this.#disks.set(nodeId, disk)
    const { clock, random } = this
    const store = new MemoryLogStore({ clock }, disk, { flush: 'turn' })
    const state = new PartitionState()
    const groupState = new GroupState(state)
    const log = await store.open(KEY, groupState)
    const owner = new Owner(state, (index) => this.#hasCommitted(log, index))
    const group = new ReplicaGroup({
      key: KEY,
      nodeId,
      configuration: { voters: this.founders.includes(nodeId) ? this.founders : [], outgoing: [], learners: [] },
      configurations: groupState.configurations,
      log,
      mode: 'flush',
      isRepairing: false,
      leastTerm: 0,
      votes: store.votes,
      catchUp: new CatchUpPace(clock, 1024 * 1024 * 1024),
      peers: this.#peersOf(nodeId),
      sets: { offer: (offered, follower) => offered.wake(follower, 0), woke() {}, forget() {} },
      owner,
      clock,
      memory: heapMemory,
      random,
      damagedOnTheWay: () => {},
      repaired: () => {},
      elected: () => {},
      needsTicksChanged: () => {},
      report: (error) => {
        throw error
      },
    })
    const running = { nodeId, group, log, store, owner }
    this.running.set(nodeId, running)
    group.start()
    return running
  }

  #hasCommitted({ batches }: MemoryLog, upTo: number): void {
    for (const { part, bytes } of batches) {
      if (part.index > upTo) return
      const checksum = crc32(bytes, 0)
      const known = this.committed.get(part.index)
      if (known === undefined) this.committed.set(part.index, checksum)
      else expect(checksum, `what is committed at ${part.index}`).toBe(known)
    }
  }

  /** The end of a process: what was not flushed may be gone, and so is everything on its way. */
  crash(nodeId: NodeId): void {
    const node = this.running.get(nodeId)
    if (node === undefined) return
    node.group.stop()
    this.running.delete(nodeId)
    const { log } = node
    const lost = log.filled.index - log.flushedIndex
    if (lost > 0) log.batches.length -= this.random(lost + 1)
    this.#disconnect(nodeId)
  }

  async restart(nodeId: NodeId): Promise<Running> {
    this.crash(nodeId)
    const after = await this.start(nodeId)
    const { batches } = after.log
    // The last one that its log brings is in force again; one that came with the state of another is told by nobody else.
    for (const { part, bytes, header } of batches.toReversed()) {
      const configuration = configurationOf(header, bytes, LOG_PART_BYTES)
      if (configuration === null) continue
      expect(after.group.configuration, `in force at ${part.index}`).toEqual(configuration)
      break
    }
    return after
  }

  /** No message comes or goes. */
  cut(nodeId: NodeId): void {
    this.#cut.add(nodeId)
    this.#disconnect(nodeId)
  }

  heal(): void {
    this.#cut.clear()
  }

  #disconnect(nodeId: NodeId): void {
    this.#messages = this.#messages.filter(({ from, to }) => from !== nodeId && to !== nodeId)
    for (const other of this.running.values()) if (other.nodeId !== nodeId) other.group.peerLost(nodeId)
  }

  #peersOf(from: NodeId): GroupPeers {
    const push = (to: NodeId, deliver: (group: ReplicaGroup) => void): boolean => {
      if (this.#cut.has(from) || this.#cut.has(to)) return false
      this.#messages.push({ from, to, deliver })
      return true
    }
    return {
      send: (to, _key, message) => void push(to, (group) => group.receive(message)),
      sendAppend: (to, _key, header, read) => {
        const pieces = read.pieces.map(({ block, offset, length }) => block.bytes.subarray(offset, offset + length))
        const bytes = new Uint8Array(Buffer.concat(pieces))
        read.release()
        const deliver = (group: ReplicaGroup): void =>
          group.receiveAppend({ message: { ...header, entries: entriesOf(bytes) }, release: () => {} })
        return push(to, deliver)
      },
      sendInstall: (to, _key, message, state) => push(to, (group) => group.receiveInstall(message, state.slice())),
    }
  }

  async settle(turns = 6): Promise<void> {
    for (let i = 0; i < turns; i++) {
      for (const { to, deliver } of this.#messages.splice(0)) {
        const node = this.running.get(to)
        if (node !== undefined) deliver(node.group)
      }
      this.clock.turn()
      await new Promise((resolve) => setImmediate(resolve))
    }
  }

  async tick(): Promise<void> {
    this.clock.advance(TICK_MS)
    for (const { group } of [...this.running.values()]) if (group.needsTicks) group.tick()
    await this.settle()
  }

  async run(ms: number): Promise<void> {
    for (let at = 0; at < ms; at += TICK_MS) await this.tick()
  }

  async until(what: string, holds: () => boolean, withinMs = 20_000): Promise<void> {
    for (let at = 0; !holds(); at += TICK_MS) {
      if (at >= withinMs) throw new Error(`not within ${withinMs} ms: ${what}; ${this.describe()}`)
      await this.tick()
    }
  }

  /** Of those that serve, the one of the newest term. */
  get leader(): Running | undefined {
    const serving = [...this.running.values()].filter(({ group }) => group.isServing)
    return serving.sort((a, b) => b.group.term - a.group.term)[0]
  }

  /** Appends where a batch is taken now. @returns its index, or 0. */
  append(): number {
    const { leader } = this
    if (leader === undefined || !leader.group.mayAppend) return 0
    const bytes = batchOf(1, { sequence: this.#sequence++, producer: [1, 1, 1, this.#sequence] })
    const { group, log } = leader
    return group.append(blockOf(bytes), 0, readBatchHeader(blockOf(bytes).view, 0), log.filled.nextOffset, 5) ?? 0
  }

  /** Everything before what is committed now goes. */
  async moveStart(): Promise<void> {
    const { log, group } = this.leader!
    const last = log.batches.find(({ part }) => part.index === group.core.commitIndex)!
    const { index, baseOffset, term } = last.part
    const offset = baseOffset + (last.header.control ? 0 : last.header.lastOffsetDelta + 1)
    const start = { index: index + 1, offset, previousTerm: term }
    const bytes = sealLogStart(start, KEY, log.filled.index + 1, 5)
    group.append(blockOf(bytes), 0, readBatchHeader(blockOf(bytes).view, 0), log.filled.nextOffset, 5)
    await this.until('the start has moved', () => log.start.index === start.index)
  }

  /** One step of the way to a target, where somebody leads. */
  drive(target: readonly NodeId[]): void {
    const { leader } = this
    if (leader === undefined) return
    const change = nextChange(target, leader.group.configuration, true)
    if (change !== null) leader.group.changeMembership(change)
  }

  /** Whether somebody leads a group of just these, and all of it is committed. */
  isAt(target: readonly NodeId[]): boolean {
    const { leader } = this
    return (
      leader !== undefined &&
      target.includes(leader.nodeId) &&
      isAtTarget(target, leader.group.configuration) &&
      leader.group.core.isConfigurationCommitted
    )
  }

  async moveTo(target: readonly NodeId[]): Promise<void> {
    await this.until(`the group is of ${target}`, () => {
      if (this.isAt(target)) return true
      this.drive(target)
      return false
    })
    // Those that a change has taken out are told by somebody else.
    for (const nodeId of [...this.running.keys()]) if (!target.includes(nodeId)) this.crash(nodeId)
  }

  describe(): string {
    return [...this.running.values()]
      .map(({ nodeId, group }) => `${nodeId}: ${group.core.role} ${group.term} ${text(group.configuration)}`)
      .join('; ')
  }
}

export const text = ({ voters, outgoing, learners }: Configuration): string => `${voters}/${outgoing}/${learners}`

export function entriesOf(bytes: Uint8Array): LoggedEntry[] {
  const block = blockOf(bytes)
  const entries: LoggedEntry[] = []
  for (let at = 0; at < bytes.length; ) {
    const part = readLogPart(block.view, at)
    const clientAt = at + LOG_PART_BYTES
    const byteLength = LOG_PART_BYTES + part.clientLength
    const header = readBatchHeader(block.view, clientAt)
    const configuration = configurationOf(header, bytes, clientAt)
    entries.push({ term: part.term, configuration, byteLength, block, at, clientAt, part, header })
    at += byteLength
  }
  return entries
}

/** A small generator: the same numbers for the same seed. */
export function chance(seed: number): (bound: number) => number {
  let state = seed * 0x9e3779b9
  return (bound) => {
    state = (state + 0x6d2b79f5) | 0
    let t = Math.imul(state ^ (state >>> 15), 1 | state)
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t
    return ((t ^ (t >>> 14)) >>> 0) % bound
  }
}
