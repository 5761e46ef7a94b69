// The batches that Raft itself has its leader write: where a term begins, and where a change of the group ends.
import { assert, LOG_PART_BYTES, readBatchHeader } from '@millrace/protocol'
import type { Clock, Memory, Timer } from '../environment.js'
import { RAFT_RETRY_MS } from '../limits.js'
import type { RaftCore } from '../raft/raft-core.js'
import type { Configuration, Entry, NodeId } from '../raft/raft-types.js'
import type { LogKey, PartitionLog } from '../storage/log-store.js'
import type { GroupConfigurations } from './group-configurations.js'
import type { GroupOwner } from './group-ports.js'
import { sealConfiguration, sealTermBegin } from './raft-batch.js'

interface OwnBatchOptions {
  readonly key: LogKey
  readonly nodeId: NodeId
  readonly log: PartitionLog
  readonly mode: 'flush' | 'write'
  readonly owner: GroupOwner
  readonly configurations: GroupConfigurations
  readonly clock: Clock
  readonly memory: Memory
  readonly elected: (key: LogKey, term: number) => void
}

interface OwnBatchEvents {
  appended(): void
  /** There may be memory now. */
  retry(): void
}

/** Each method says false while there is no room for its batch: it is then called again. */
export class OwnBatches {
  #retry: Timer | null = null

  constructor(
    private readonly group: { readonly core: RaftCore<Entry> },
    private readonly options: OwnBatchOptions,
    private readonly events: OwnBatchEvents,
  ) {}

  /** This node has won the term. @returns what writes the batch that begins it. */
  elected(term: number): () => boolean {
    this.options.elected(this.options.key, term)
    return () => this.#beginTerm(term)
  }

  /**
   * Makes the leader's own term count (dissertation, 6.4). The first leader of a group writes down whom it began with: nodes
   * that come later have nobody else to learn it from.
   */
  #beginTerm(term: number): boolean {
    if (this.group.core.role !== 'leader' || this.group.core.term !== term) return true
    const { key, nodeId, log, clock, configurations } = this.options
    if (!configurations.isKnown) return this.configure(this.group.core.configuration)
    const wallMs = clock.wallMs()
    return this.#append(sealTermBegin(nodeId, key, log.filled.index + 1, wallMs), wallMs, null)
  }

  stop(): void {
    this.#retry?.cancel()
  }

  /** Ends a joint configuration (dissertation, 4.3). */
  leaveJoint(configuration: Configuration, term: number): boolean {
    return this.group.core.role !== 'leader' || this.group.core.term !== term || this.configure(configuration)
  }

  /** Where this node leads: from now on the group is as `configuration` has it. */
  configure(configuration: Configuration): boolean {
    const { key, log, clock } = this.options
    const wallMs = clock.wallMs()
    return this.#append(sealConfiguration(configuration, key, log.filled.index + 1, wallMs), wallMs, configuration)
  }

  #append(batch: Uint8Array, appendTime: number, configuration: Configuration | null): boolean {
    const { log, clock, memory, owner, mode, configurations } = this.options
    const { term } = this.group.core
    if (!log.hasRoom(LOG_PART_BYTES + batch.length, true)) return false
    const block = memory.allocate(batch.length)
    if (block === null) {
      this.#retry ??= clock.timer(RAFT_RETRY_MS, () => {
        this.#retry = null
        this.events.retry()
      })
      return false
    }
    try {
      block.bytes.set(batch)
      const header = readBatchHeader(block.view, 0)
      const index = log.filled.index + 1
      const { nextOffset: baseOffset } = log.filled
      assert(index === this.group.core.lastIndex + 1, 'a leader appends behind everything of its log')
      const written = log.append(block, 0, header, { term, baseOffset, index, appendTime }, mode)
      assert(written, 'the checksum of a batch just sealed holds')
      if (configuration !== null) configurations.note(index, configuration)
      owner.begun(header, index, appendTime)
      this.group.core.proposed([{ term, configuration, byteLength: LOG_PART_BYTES + header.length }])
      this.events.appended()
    } finally {
      memory.release(block)
    }
    return true
  }
}
