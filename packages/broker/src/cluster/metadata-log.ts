// The metadata log: commands in, committed by its group, applied in order on every member. It is the log of topic 0,
// partition 0, like any other.
import { AssertionError, type BatchHeader, LOG_PART_BYTES, ProtocolError, readBatchHeader } from '@millrace/protocol'
import type { Clock, Memory } from '../environment.js'
import { Fifo } from '../fifo.js'
import { decodeFields, encodeMessagePack } from '../message-pack.js'
import type { Membership } from '../raft/membership.js'
import type { Configuration } from '../raft/raft-types.js'
import { cutDamage } from '../replication/cut-damage.js'
import type { MembershipRefusal } from '../replication/group-membership.js'
import type { GroupOwner, LoggedEntry, ReplicaStatus } from '../replication/group-ports.js'
import { GroupState } from '../replication/group-state.js'
import { type Groups, isSoleReplica } from '../replication/groups.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import type { LogKey, LogState, LogStore, PartitionLog, StorageError } from '../storage/log-store.js'
import { commandOf, sealCommand } from './command-batch.js'
import { type LoggedCommand, readCommands } from './logged-commands.js'
import type { MetadataCommand } from './metadata-command.js'
import { decodeImage, imageFields, MetadataState } from './metadata-state.js'

export const METADATA_KEY: LogKey = { topicId: 0, partition: 0, lane: 0 }
const NOBODY: Configuration = { voters: [], outgoing: [], learners: [] }

export interface MetadataLogOptions {
  readonly memory: Memory
  readonly clock: Clock
  readonly groups: Groups
  /** Nodes that the group began with; none where it is older than this replica. */
  readonly members: readonly number[]
}

interface Proposal {
  readonly index: number
  readonly resolve: (command: MetadataCommand) => void
  readonly reject: (error: unknown) => void
}

/** The committed state and where it ends: what checkpoints carry. Commands behind it are read from the log. */
class CommittedState implements LogState {
  readonly metadata = new MetadataState()
  /** Offset after the last command applied. */
  nextOffset = 0
  /** Index of the last command applied: the version of the cluster map. */
  version = 0
  /** While the log is being opened. Later what is committed is known better here than anywhere on disk. */
  isOpening = true

  encodeState(): Uint8Array {
    return encodeMessagePack({
      nextOffset: this.nextOffset,
      version: this.version,
      ...imageFields(this.metadata.image()),
    })
  }

  restoreState(state: Uint8Array | null): void {
    if (!this.isOpening) return
    if (state === null) {
      this.metadata.restore(null)
      this.nextOffset = 0
      this.version = 0
    } else this.install(state)
  }

  /** @throws ProtocolError INVALID_REQUEST for bytes that `encodeState` did not write. */
  install(state: Uint8Array): void {
    const fields = decodeFields(state)
    const { nextOffset, version } = fields
    if (typeof nextOffset !== 'number' || typeof version !== 'number') {
      throw new ProtocolError('INVALID_REQUEST', 'a checkpoint of the metadata without its place')
    }
    this.metadata.restore(decodeImage(fields))
    this.nextOffset = nextOffset
    this.version = version
  }

  /** Commands stand in bodies, which replay does not show; they are read once the log is open. */
  replay(): void {}
}

export class MetadataLog implements GroupOwner {
  /** Called for each command once it is applied to `state`, in order. */
  onApplied: (command: MetadataCommand, version: number) => void = () => {}
  /** Called when who leads has changed, and when something was heard of what is committed. */
  onChanged: () => void = () => {}
  readonly #log: PartitionLog
  readonly #committed: CommittedState
  readonly #options: MetadataLogOptions
  #group: ReplicaGroup | null = null
  /** The state with everything in the log applied, committed or not: what proposals are judged by. */
  readonly #proposed = new MetadataState()
  #pending: Fifo<LoggedCommand>
  #proposals = new Fifo<Proposal>()
  #lastAppendTime = 0
  #hasCommitted = false

  private constructor(
    log: PartitionLog,
    committed: CommittedState,
    pending: readonly LoggedCommand[],
    options: MetadataLogOptions,
  ) {
    this.#log = log
    this.#committed = committed
    this.#options = options
    this.#pending = new Fifo()
    for (const command of pending) this.#pending.push(command)
    this.#judgeAnew()
  }

  /** Takes part in the group from `start` on. @throws StorageError; ProtocolError when a newer version wrote the log. */
  static async open(store: LogStore, options: MetadataLogOptions): Promise<MetadataLog> {
    const committed = new CommittedState()
    const groupState = new GroupState(committed)
    const { configurations } = groupState
    const log = await store.open(METADATA_KEY, groupState)
    const { groups, members: founders } = options
    if (!isSoleReplica({ log, configurations, founders }, groups.nodeId)) await cutDamage(log)
    const pending = await readCommands(log, committed.nextOffset)
    if (log.flushedIndex < log.filled.index) await log.flush()
    committed.isOpening = false
    const metadata = new MetadataLog(log, committed, pending, options)
    metadata.#group = await groups.add({
      key: METADATA_KEY,
      log,
      configurations,
      founders,
      mode: 'flush',
      owner: metadata,
    })
    return metadata
  }

  start(): void {
    this.#group?.start()
    // What is whole of a damaged log without replicas is all there is.
    if (this.isSole && this.#log.failure !== null) this.committed(this.#log.filled.index)
  }

  /** What is committed: the only state anybody acts on. */
  get state(): MetadataState {
    return this.#committed.metadata
  }

  /** Index of the last command applied: the version of the cluster map. */
  get version(): number {
    return this.#committed.version
  }

  /** How far this node is, and the term of what it applied last: of two nodes at one version both have the same. */
  get digest(): { readonly position: number; readonly hash: number } {
    return { position: this.version, hash: this.version === 0 ? 0 : this.#log.termAtIndex(this.version) }
  }

  /** Why nothing is written to the log of this node any more; null while it is. */
  get failure(): StorageError | null {
    return this.#log.failure
  }

  /** Whether this node decides alone. */
  get isSole(): boolean {
    return this.#group?.membership.isSole ?? false
  }

  /** Who belongs to the group; nobody while this node has not heard it. */
  get configuration(): Configuration {
    return this.#group?.configuration ?? NOBODY
  }

  /** Whether that cannot be undone any more, and no change is under way. */
  get isConfigurationCommitted(): boolean {
    return this.#group?.core.isConfigurationCommitted ?? false
  }

  /** Of the one that leads: what it knows of every replica. */
  replicas(): readonly ReplicaStatus[] {
    return this.#group?.replicas() ?? []
  }

  /** @returns why not now, or null: then the change is in the log. @throws StorageError. */
  changeMembership(target: Membership): MembershipRefusal | null {
    return this.#group?.changeMembership(target) ?? null
  }

  get bytesOnDisk(): number {
    return this.#log.bytesOnDisk
  }

  /** Whether commands can be proposed on this node. */
  get leads(): boolean {
    return this.#group?.isServing ?? false
  }

  /** 0 while none is known. */
  get leader(): number {
    return this.#group?.leader ?? 0
  }

  get term(): number {
    return this.#group?.term ?? 0
  }

  /** Whether anything was heard of what is committed since this node began. */
  get hasCommitted(): boolean {
    return this.#hasCommitted
  }

  /**
   * Writes a command and resolves once it is committed and applied.
   * @param judge sees the state with everything before the command applied, and gives the command or throws a refusal.
   * @throws what `judge` throws; StorageError; ProtocolError OVERLOADED, NOT_LEADER. After NOT_LEADER it may still happen.
   */
  async propose(judge: (state: MetadataState) => MetadataCommand): Promise<MetadataCommand> {
    let refusal: { readonly error: unknown } | null = null
    try {
      return await this.#proposeJudged((state) => {
        try {
          return judge(state)
        } catch (error) {
          refusal = { error }
          throw error
        }
      })
    } catch (error) {
      if (refusal !== null) await this.#confirmed()
      throw error
    }
  }

  /**
   * What a command was refused for may not be committed, and would then never have been: resolves once it is certain.
   * @throws StorageError; ProtocolError NOT_LEADER when another node has to be asked.
   */
  #confirmed(): Promise<unknown> {
    const last = this.#pending.peekLast()
    if (last === undefined) return this.catchUp()
    return new Promise((resolve, reject) => this.#proposals.push({ index: last.index, resolve, reject }))
  }

  /**
   * Resolves once `state` has everything that was committed before the call: another node may lead since a while.
   * @throws StorageError; ProtocolError NOT_LEADER when another node has to be asked.
   */
  async catchUp(): Promise<void> {
    this.#assertLeading()
    await this.#group!.readBarrier().catch(() => {
      throw this.failure ?? notLeading()
    })
  }

  async #proposeJudged(judge: (state: MetadataState) => MetadataCommand): Promise<MetadataCommand> {
    this.#assertLeading()
    // The command has to be known to see how much room it takes, and to be judged again if that took time.
    let bytes = LOG_PART_BYTES + this.#seal(judge(this.#proposed)).length
    while (!this.#log.hasRoom(bytes)) {
      await new Promise<void>((resolve) => this.#log.onRoom(resolve))
      this.#assertLeading()
      bytes = LOG_PART_BYTES + this.#seal(judge(this.#proposed)).length
    }
    const command = judge(this.#proposed)
    return new Promise((resolve, reject) => {
      const index = this.#append(command)
      this.#proposals.push({ index, resolve, reject })
    })
  }

  #assertLeading(): void {
    if (this.#log.failure !== null) throw this.#log.failure
    if (!this.leads || this.#group?.mayAppend !== true) throw notLeading()
  }

  #seal(command: MetadataCommand): Uint8Array {
    return sealCommand(command, this.#log.filled.index + 1, this.#options.clock.wallMs())
  }

  /** @returns the index of the command. @throws StorageError, ProtocolError OVERLOADED. */
  #append(command: MetadataCommand): number {
    const { memory, clock } = this.#options
    const batch = this.#seal(command)
    const block = memory.allocate(batch.length)
    if (block === null) throw new ProtocolError('OVERLOADED', 'no memory for a metadata command')
    try {
      block.bytes.set(batch)
      const appendTime = Math.max(clock.wallMs(), this.#lastAppendTime)
      const header = readBatchHeader(block.view, 0)
      const index = this.#group!.append(block, 0, header, this.#log.filled.nextOffset, appendTime)
      if (index === null) throw new AssertionError('the checksum of a batch just sealed does not hold')
      this.#lastAppendTime = appendTime
      this.#add({ command, index, nextOffset: this.#log.filled.nextOffset })
      return index
    } finally {
      memory.release(block)
    }
  }

  #add(pending: LoggedCommand): void {
    this.#pending.push(pending)
    this.#proposed.apply(pending.command)
  }

  #judgeAnew(): void {
    this.#proposed.restore(this.state.image())
    for (const { command } of this.#pending.items()) this.#proposed.apply(command)
  }

  // -------------------------------------------------------------- what the group says

  followed({ block, clientAt, header, part }: LoggedEntry): void {
    this.#lastAppendTime = Math.max(this.#lastAppendTime, part.appendTime)
    if (header.control) return
    const command = commandOf(block.bytes, clientAt, clientAt + header.length)
    this.#add({ command, index: part.index, nextOffset: this.#log.filled.nextOffset })
  }

  begun(_header: BatchHeader, _index: number, appendTime: number): void {
    this.#lastAppendTime = Math.max(this.#lastAppendTime, appendTime)
  }

  truncated(lastIndex: number): void {
    const kept = this.#pending.drain().filter(({ index }) => index <= lastIndex)
    for (const pending of kept) this.#pending.push(pending)
    this.#judgeAnew()
  }

  /** No start of this log is ever moved, so that nobody can be behind it. */
  installed(): void {
    throw new AssertionError('the metadata log begins where it began')
  }

  stateToInstall(): Uint8Array {
    throw new AssertionError('the metadata log begins where it began')
  }

  durable(): void {}

  committed(index: number): void {
    const isFirst = !this.#hasCommitted && index > 0
    if (isFirst) this.#hasCommitted = true
    const before = this.version
    for (let next = this.#pending.peek(); next !== undefined && next.index <= index; next = this.#pending.peek()) {
      this.#pending.shift()
      this.state.apply(next.command)
      this.#committed.nextOffset = next.nextOffset
      this.#committed.version = next.index
      this.onApplied(next.command, next.index)
      while (this.#proposals.peek()?.index === next.index) this.#proposals.shift()?.resolve(next.command)
    }
    if (isFirst || this.version !== before) this.onChanged()
  }

  changed(): void {
    const { failure } = this.#log
    if (!this.leads || failure !== null) {
      const error = failure ?? new ProtocolError('NOT_LEADER', 'another node leads the metadata now')
      for (const { reject } of this.#proposals.drain()) reject(error)
    }
    this.onChanged()
  }
}

const notLeading = (): ProtocolError => new ProtocolError('NOT_LEADER', 'this node does not lead the metadata')
