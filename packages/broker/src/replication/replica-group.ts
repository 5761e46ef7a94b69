// One replica of a group: drives the Raft core with a log, votes and peers. Messages, ticks and completions come in one
// after the other; what the core wants done to the log is done in order, when the log has room for it.
import { assert, type BatchHeader, LOG_PART_BYTES } from '@millrace/protocol'
import type { Block } from '../environment.js'
import type { Membership } from '../raft/membership.js'
import type { RaftCore } from '../raft/raft-core.js'
import type {
  Configuration,
  Effect,
  Entry,
  InstallRequest,
  NodeId,
  RaftMessage,
  RaftStart,
} from '../raft/raft-types.js'
import type { TransferRefusal } from '../raft/transfer.js'
import { type LogKey, type PartitionLog, StorageError } from '../storage/log-store.js'
import { CoreHolder, durableIndexOf } from './core-holder.js'
import { EntryGate } from './entry-gate.js'
import { FollowerReads } from './follower-reads.js'
import { GroupMembership, type MembershipRefusal } from './group-membership.js'
import type { ReplicaGroupOptions } from './group-options.js'
import type { IncomingAppend, LoggedEntry, ReplicaStatus } from './group-ports.js'
import { GroupRest } from './group-rest.js'
import { encodeInstalledState } from './installed-state.js'
import { LogTasks } from './log-tasks.js'
import { OwnBatches } from './own-batches.js'
import { notLeading, ReadBarriers } from './read-barriers.js'
import { replicaStatuses } from './replica-statuses.js'

type Performed = Effect<Entry>

export class ReplicaGroup {
  readonly key: LogKey
  readonly log: PartitionLog
  readonly membership: GroupMembership
  readonly #holder: CoreHolder
  readonly #options: ReplicaGroupOptions
  readonly #tasks: LogTasks
  readonly #barriers = new ReadBarriers()
  readonly #ownBatches: OwnBatches
  readonly #reads: FollowerReads
  readonly #gate: EntryGate
  readonly rest: GroupRest
  /** The frame whose message the core is looking at. */
  #incoming: IncomingAppend | null = null
  #running = false
  #scheduled = false
  /** The log fails, or the group is closed: this replica says nothing any more. */
  #stopped = false
  /** As the owner knows it: twice the term that this node leads in, and one more when it serves; 0 while another leads. */
  #standing = 0

  constructor(options: ReplicaGroupOptions) {
    const { log } = options
    this.#options = options
    this.key = options.key
    this.log = log
    this.#holder = new CoreHolder(options, {
      persisted: () => this.#run(),
      begunAnew: () => options.owner.changed(),
      failed: (error) => this.#fail(error),
    })
    this.#tasks = new LogTasks(log, options, {
      appended: (entry) => this.#followed(entry),
      truncated: (lastIndex, sequence) => {
        this.core.truncated(sequence)
        options.owner.truncated(lastIndex)
      },
      installed: (start) => this.#installed(start),
      progressed: () => this.#logMoved(),
      full: () => this.#diskFull(),
      failed: (error) => this.#fail(error),
    })
    this.#ownBatches = new OwnBatches(this, options, {
      appended: () => this.#schedule(),
      retry: () => this.#tasks.pump(),
    })
    this.#reads = new FollowerReads(this, options, { isStopped: () => this.#stopped, done: () => this.#run() })
    this.#gate = new EntryGate(options)
    this.membership = new GroupMembership(this, options.nodeId, this.#ownBatches)
    this.rest = new GroupRest(this, options, { isAside: () => this.#isAside, run: () => this.#run() })
    log.onAdvance = () => this.#logMoved()
  }

  get core(): RaftCore<Entry> {
    return this.#holder.core
  }

  /** Takes part from now on. What recovery found is durable: it was flushed again before the log was given away. */
  start(): void {
    this.#logMoved()
  }

  /** Whether this node leads and takes batches: they are committed as soon as it serves. */
  get leads(): boolean {
    return !this.#stopped && this.core.hasBegunTerm
  }

  /** Whether this node leads and everything committed before its term is known here. */
  get isServing(): boolean {
    return !this.#stopped && this.core.isServing
  }

  get term(): number {
    return this.core.term
  }

  get leader(): NodeId {
    return this.core.leader
  }

  /** In force here: the newest in the log, committed or not; nobody while this node has not heard who belongs to the group. */
  get configuration(): Configuration {
    return this.core.configuration
  }

  /**
   * Where this node leads: the group is to have other members. Voters come by way of learners that keep up.
   * @returns why not now, or null: then the change is in the log. @throws StorageError.
   */
  changeMembership(target: Membership): MembershipRefusal | null {
    return this.#isAside ? 'notLeader' : this.membership.change(target)
  }

  /** Time matters to whoever has others to hear from and is not at rest, and to whoever is about to lead alone. */
  get needsTicks(): boolean {
    return !this.#stopped && !this.membership.isByItself && !this.core.isAtRest
  }

  // -------------------------------------------------------------- what comes in

  receive(message: RaftMessage<Entry>): void {
    this.#tell((core) => core.step(message))
  }

  receiveAppend(append: IncomingAppend): void {
    if (this.#isAside || !this.#gate.lets(append)) {
      append.release()
      return
    }
    this.#incoming = append
    this.core.step(append.message)
    this.#run()
    // Nothing of it was wanted: the log holds it already, or does not agree.
    if (this.#incoming !== null) append.release()
    this.#incoming = null
  }

  get #isAside(): boolean {
    return this.#stopped || this.#holder.beginsAnew
  }

  receiveInstall(message: InstallRequest, state: Uint8Array): void {
    if (this.#stopped) return
    this.#tasks.offeredState = state
    this.receive(message)
  }

  tick(): void {
    if (this.#isAside) return
    this.core.tick()
    if (this.core.hasEffects) this.#run()
  }

  peerLost(nodeId: NodeId): void {
    this.#tell((core) => core.unreachable(nodeId))
  }

  #tell(event: (core: RaftCore<Entry>) => void): void {
    if (this.#isAside) return
    event(this.core)
    this.#run()
  }

  /**
   * Appends a batch where this node leads.
   * @returns its index; null, and nothing has changed, when its checksum does not hold. @throws StorageError.
   */
  append(block: Block, at: number, header: BatchHeader, baseOffset: number, appendTime: number): number | null {
    const { term } = this.core
    const index = this.log.filled.index + 1
    assert(this.mayAppend && index === this.core.lastIndex + 1, 'only a leader appends, behind everything of its log')
    if (!this.log.append(block, at, header, { term, baseOffset, index, appendTime }, this.#options.mode)) return null
    this.core.proposed([{ term, configuration: null, byteLength: LOG_PART_BYTES + header.length }])
    this.#schedule()
    return index
  }

  /** Resolves once everything committed before the call is known here. Rejects when this node does not lead any more. */
  readBarrier(): Promise<void> {
    if (this.#stopped) return Promise.reject(notLeading())
    const promise = this.#barriers.wait(this.core.requestRead())
    this.#run()
    return promise
  }

  /** Hands leadership over. @returns why not, or null. */
  transferTo(nodeId: NodeId): TransferRefusal | null {
    const refusal = this.core.transferTo(nodeId)
    this.#run()
    return refusal
  }

  /** Whether batches can be appended now; if not while this node leads, `changed` or `committed` tells when to look again. */
  get mayAppend(): boolean {
    return this.leads && this.core.mayPropose
  }

  /** What this node knows as a leader of every replica, itself included. */
  replicas(): readonly ReplicaStatus[] {
    return replicaStatuses(this.core)
  }

  /** Takes part in nothing any more. */
  stop(): void {
    if (this.#stopped) return
    this.#stopped = true
    this.#holder.stop()
    this.rest.forget()
    this.#tasks.stop()
    this.#reads.stop()
    this.#ownBatches.stop()
    this.#barriers.refuseAll()
    this.#options.owner.changed()
  }

  // -------------------------------------------------------------- what the log says

  #logMoved(): void {
    const { log } = this
    const { mode, owner } = this.#options
    if (log.failure !== null) {
      this.#fail(log.failure)
      return
    }
    if (this.#stopped) return
    const index = durableIndexOf(log, mode)
    // Nothing is said of what is about to be cut off.
    if (!this.#tasks.isCutting && index > 0) {
      this.core.durable(index, log.termAtIndex(index))
      owner.durable(index)
    }
    this.#run()
    this.#applyCommit()
  }

  /**
   * A follower whose disk is full gives back the memory of what it cannot take, and is again what its log says, as after a
   * restart: nothing of that was acknowledged. It asks for the rest once there is space.
   */
  #diskFull(): void {
    this.#gate.close()
    this.#tasks.clear()
    this.rest.forget()
    this.#holder.beginAnew()
  }

  #fail(error: unknown): void {
    if (!(error instanceof StorageError)) this.#options.report(error)
    this.stop()
  }

  // -------------------------------------------------------------- what is to be done

  /** At the end of the turn: what was appended in it leaves together. */
  #schedule(): void {
    if (this.#scheduled) return
    this.#scheduled = true
    this.#options.clock.defer(() => {
      this.#scheduled = false
      if (!this.#stopped) this.#run()
    })
  }

  #run(): void {
    if (this.#running) return
    this.#running = true
    try {
      for (let effects = this.core.takeEffects(); effects.length > 0; effects = this.core.takeEffects()) {
        const { core } = this
        for (const effect of effects) if (!this.#isAside && core === this.core) this.#perform(effect)
      }
    } finally {
      this.#running = false
    }
    this.#noteLeading()
    this.rest.noteTicks(this.needsTicks)
  }

  #perform(effect: Performed): void {
    const { term } = this.core
    switch (effect.kind) {
      case 'persist':
        this.#holder.persist(effect.sequence, effect.hardState)
        return
      case 'send':
        this.#send(effect.message)
        return
      case 'read':
        this.#reads.begin(effect)
        return
      case 'truncate':
        this.#tasks.truncate(effect.lastIndex, effect.sequence)
        return
      case 'append':
        this.#append(effect)
        return
      case 'install':
        this.#tasks.install(effect.start)
        return
      case 'commit':
        this.#applyCommit()
        return
      case 'role':
        this.#roleChanged(effect)
        return
      case 'readReady':
      case 'readRefused':
        this.#barriers.settle(effect.read, effect.kind === 'readReady')
        return
      case 'transferAborted':
        this.#options.owner.changed()
        return
      case 'repaired':
        this.#options.repaired(this.key)
        return
      case 'rest':
      case 'wake':
        this.rest.perform(effect)
        return
      case 'leaveJoint':
        this.#tasks.whenRoom(() => this.#ownBatches.leaveJoint(effect.configuration, term))
        return
    }
  }

  #send(message: RaftMessage<Entry>): void {
    const { peers, owner } = this.#options
    if (message.kind !== 'install') {
      peers.send(message.to, this.key, message)
      return
    }
    const { offset } = this.log.start
    const state = encodeInstalledState({ offset, state: owner.stateToInstall(this.#committedHere) })
    this.core.installSent(message.to, peers.sendInstall(message.to, this.key, message, state))
  }

  #append({ entries }: Performed & { kind: 'append' }): void {
    const incoming = this.#incoming
    assert(incoming !== null, 'entries to append come with the message that the core is looking at')
    this.#incoming = null
    // What the log has already is left out from the front.
    const wanted = incoming.message.entries.slice(incoming.message.entries.length - entries.length)
    this.#tasks.append(wanted, () => incoming.release())
  }

  #roleChanged({ role, term }: Performed & { kind: 'role' }): void {
    if (role === 'leader') this.#tasks.whenRoom(this.#ownBatches.elected(term))
    this.#options.owner.changed()
  }

  #followed(entry: LoggedEntry): void {
    const { configurations, owner } = this.#options
    if (entry.configuration !== null) configurations.note(entry.part.index, entry.configuration)
    owner.followed(entry)
  }

  #installed(start: RaftStart): void {
    this.core.installed(start)
    this.#options.owner.installed()
    this.#logMoved()
  }

  /** Of what is committed, the part that is in this log: a follower may hear of the commit first. */
  get #committedHere(): number {
    return Math.min(this.core.commitIndex, this.#tasks.appliedIndex)
  }

  #applyCommit(): void {
    const index = this.#committedHere
    const { index: startBefore } = this.log.start
    this.log.noteCommitted(index)
    this.#options.owner.committed(index)
    const { start } = this.log
    if (start.index !== startBefore) {
      this.#options.configurations.forgetBefore(start.index)
      this.core.logStartMoved(start)
    }
    this.#noteLeading()
  }

  #noteLeading(): void {
    const { term } = this.core
    const standing = this.leads ? 2 * term + Number(this.isServing) : 0
    if (standing === this.#standing) return
    this.#standing = standing
    this.#options.owner.changed()
  }
}
