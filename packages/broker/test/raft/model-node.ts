// One node around a RaftCore for the tests: a disk with a volatile and a durable part, and the duties of the shell.
import type { RaftCore } from '#src/raft/raft-core.js'
import { RAFT_LIMITS, type RaftLimits } from '#src/raft/raft-limits.js'
import type {
  Configuration,
  Effect,
  Entry,
  HardState,
  NodeId,
  RaftMessage,
  RaftOptions,
  RaftStart,
} from '#src/raft/raft-types.js'

export interface TestEntry extends Entry {
  readonly value: string
}

export type TestMessage = RaftMessage<TestEntry>
export type TestCore = RaftCore<TestEntry>
export type CoreClass = new (options: RaftOptions) => TestCore

export const TEST_LIMITS: RaftLimits = {
  ...RAFT_LIMITS,
  electionMinTicks: 10,
  electionMaxTicks: 20,
  heartbeatTicks: 2,
  windowBytes: 400,
  windowMessages: 4,
  maxAppendBytes: 100,
}

/** A log as it lies on the disk: entries from `start` on. */
export interface StoredLog {
  start: RaftStart
  entries: TestEntry[]
}

type LogWork = Extract<Effect<TestEntry>, { kind: 'append' | 'truncate' | 'install' }>
type ReadEffect = Extract<Effect<TestEntry>, { kind: 'read' }>

/** What a node tells its world. */
export interface NodeListener {
  onEffect(node: ModelNode, effect: Effect<TestEntry>): void
}

export interface NodeOptions {
  readonly nodeId: NodeId
  readonly configuration: Configuration
  readonly limits: RaftLimits
  readonly random: (bound: number) => number
  readonly coreClass: CoreClass
  readonly announcesCommits: boolean
}

export function lastIndexOf(log: StoredLog): number {
  return log.start.index + log.entries.length - 1
}

export function entryAt(log: StoredLog, index: number): TestEntry | undefined {
  return log.entries[index - log.start.index]
}

export function copyOf(log: StoredLog): StoredLog {
  return { start: log.start, entries: [...log.entries] }
}

/** Term runs and configurations, as recovery finds them. */
export function scan(log: StoredLog): Pick<RaftOptions, 'terms' | 'configurations'> {
  const terms: { term: number; firstIndex: number }[] = []
  const configurations: { index: number; configuration: Configuration }[] = []
  for (const [at, { term, configuration }] of log.entries.entries()) {
    const index = log.start.index + at
    if (terms.at(-1)?.term !== term) terms.push({ term, firstIndex: index })
    if (configuration !== null) configurations.push({ index, configuration })
  }
  return { terms, configurations }
}

export class ModelNode {
  readonly nodeId: NodeId
  core: TestCore | null = null
  /** Written, perhaps not durable: lost with a crash. */
  log: StoredLog
  durable: StoredLog
  hardState: HardState = { term: 0, votedFor: 0 }
  /** A slow disk waits to be told: `persist`, `write`, `flush`. */
  isSlow = false
  readonly persists: { sequence: number; hardState: HardState }[] = []
  readonly work: LogWork[] = []
  readonly reads: ReadEffect[] = []
  /** The shell is slow to append what it owes as a new leader. */
  appendsTermBegin = true
  installedStart: RaftStart | null = null
  starts = 0
  /** Kept over restarts: it may lack what it had acknowledged. */
  isRepairing = false
  private owes: 'begin' | Configuration | null = null
  private isSettling = false
  /** The cluster, which is another one in a copy. */
  listener: NodeListener
  private readonly options: NodeOptions

  constructor(options: NodeOptions, listener: NodeListener) {
    this.options = options
    this.listener = listener
    this.nodeId = options.nodeId
    this.log = { start: { index: 1, previousTerm: 0, configuration: options.configuration }, entries: [] }
    this.durable = copyOf(this.log)
  }

  get isUp(): boolean {
    return this.core !== null
  }

  /** @throws when the node is down. */
  get running(): TestCore {
    if (this.core === null) throw new Error(`node ${this.nodeId} is down`)
    return this.core
  }

  start(): void {
    const { nodeId, limits, random, coreClass, announcesCommits } = this.options
    this.log = copyOf(this.durable)
    this.starts++
    const lastIndex = lastIndexOf(this.log)
    this.core = new coreClass({
      nodeId,
      limits,
      random,
      hardState: this.hardState,
      start: this.log.start,
      ...scan(this.log),
      lastIndex,
      durableIndex: lastIndex,
      committed: this.log.start.index - 1,
      isRepairing: this.isRepairing,
      announcesCommits,
    })
    this.settle()
  }

  crash(): void {
    this.core = null
    this.persists.length = 0
    this.work.length = 0
    this.reads.length = 0
    this.installedStart = null
    this.owes = null
    this.log = copyOf(this.durable)
  }

  /** The disk gives less back than was flushed. */
  lose(count: number): void {
    this.durable.entries.length = Math.max(0, this.durable.entries.length - count)
    this.log = copyOf(this.durable)
    this.isRepairing = true
  }

  /** Carry out effects until there are none; a fast disk does its part at once. */
  settle(): void {
    if (this.isSettling) return
    this.isSettling = true
    while (this.core !== null) {
      const effects = this.core.takeEffects()
      for (const effect of effects) this.carryOut(effect)
      if (effects.length > 0 || this.payDebts()) continue
      if (!this.isSlow && this.diskStep()) continue
      if (this.work.length === 0 && this.reads.length > 0) {
        this.read(this.reads.shift()!)
        continue
      }
      break
    }
    this.isSettling = false
  }

  /** What the core has asked the shell to append. */
  private payDebts(): boolean {
    const { core, owes } = this
    this.owes = null
    if (core === null || owes === null || core.role !== 'leader') return false
    if (owes === 'begin') this.append(['begin'])
    else this.appendConfiguration(owes)
    return true
  }

  /** The shell appends, flushes when the disk is fast, and reports. */
  append(values: readonly string[]): void {
    const core = this.running
    this.appendEntries(values.map((value) => ({ term: core.term, configuration: null, byteLength: 10, value })))
  }

  appendConfiguration(configuration: Configuration): void {
    const { term } = this.running
    const value = `voters ${configuration.voters.join(',')}`
    this.appendEntries([{ term, configuration, byteLength: 10, value }])
  }

  persist(): void {
    for (const { sequence, hardState } of this.persists.splice(0)) {
      this.hardState = hardState
      this.core?.hardStatePersisted(sequence)
    }
    this.settle()
  }

  /** Work on the log is carried out, and not flushed. */
  write(): void {
    for (const work of this.work.splice(0)) this.carryOutWork(work)
    this.settle()
  }

  flush(): void {
    this.durable = copyOf(this.log)
    this.reportDurable()
    this.settle()
  }

  private appendEntries(entries: TestEntry[]): void {
    const core = this.running
    // The leader's own log is behind its core while work waits, and is appended to after it.
    this.write()
    this.log.entries.push(...entries)
    core.proposed(entries)
    this.settle()
  }

  private carryOut(effect: Effect<TestEntry>): void {
    this.listener.onEffect(this, effect)
    switch (effect.kind) {
      case 'persist':
        this.persists.push(effect)
        return
      case 'append':
      case 'truncate':
      case 'install':
        this.work.push(effect)
        return
      case 'read':
        this.reads.push(effect)
        return
      case 'role':
        if (effect.role === 'leader' && this.appendsTermBegin) this.owes = 'begin'
        return
      case 'send':
        // The state of an install travels beside the message, and has left with it; both may be lost.
        if (effect.message.kind === 'install') this.running.installSent(effect.message.to, true)
        return
      case 'repaired':
        this.isRepairing = false
        return
      case 'leaveJoint':
        this.owes = effect.configuration
        return
      default:
    }
  }

  private diskStep(): boolean {
    if (this.persists.length > 0) {
      this.persist()
      return true
    }
    if (this.work.length > 0) {
      this.write()
      return true
    }
    if (
      lastIndexOf(this.durable) === lastIndexOf(this.log) &&
      this.durable.entries.at(-1) === this.log.entries.at(-1)
    ) {
      return false
    }
    this.flush()
    return true
  }

  private carryOutWork(work: LogWork): void {
    const { log } = this
    if (work.kind === 'truncate') {
      log.entries.length = Math.max(0, work.lastIndex - log.start.index + 1)
      this.core?.truncated(work.sequence)
    } else if (work.kind === 'append') {
      if (work.firstIndex !== lastIndexOf(log) + 1) throw new Error(`append at ${work.firstIndex} leaves a hole`)
      log.entries.push(...work.entries)
    } else {
      this.log = { start: work.start, entries: [] }
      this.installedStart = work.start
      // An install is durable by itself, whatever it is followed by.
      this.durable = copyOf(this.log)
      this.core?.installed(work.start)
    }
  }

  /** Something waits to be carried out or flushed. */
  get hasDiskWork(): boolean {
    return this.persists.length > 0 || this.work.length > 0 || this.log.entries.at(-1) !== this.durable.entries.at(-1)
  }

  /** The log as it will be once all work is carried out. */
  logical(): StoredLog {
    if (this.work.length === 0) return this.log
    let log = copyOf(this.log)
    for (const work of this.work) {
      if (work.kind === 'truncate') log.entries.length = Math.max(0, work.lastIndex - log.start.index + 1)
      else if (work.kind === 'append') log.entries.push(...work.entries)
      else log = { start: work.start, entries: [] }
    }
    return log
  }

  private reportDurable(): void {
    const index = lastIndexOf(this.durable)
    const term = entryAt(this.durable, index)?.term ?? this.durable.start.previousTerm
    this.core?.durable(index, term)
  }

  private read({ to, term, nextIndex, maxBytes }: ReadEffect): void {
    const core = this.running
    const entries: TestEntry[] = []
    let byteLength = 0
    for (let index = nextIndex; index <= lastIndexOf(this.log); index++) {
      const entry = entryAt(this.log, index)
      if (entry === undefined || (entries.length > 0 && byteLength + entry.byteLength > maxBytes)) break
      entries.push(entry)
      byteLength += entry.byteLength
    }
    if (entries.length === 0) {
      core.readFailed(to, term)
      return
    }
    const message = core.entriesRead(to, term, entries)
    if (message !== null) this.listener.onEffect(this, { kind: 'send', message })
  }
}
