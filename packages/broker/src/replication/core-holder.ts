// The core of a replica and its votes: made from what log and votes say, at the start and whenever the log could not follow.
import { SPACE_RETRY_MS } from '../limits.js'
import { RaftCore } from '../raft/raft-core.js'
import { RAFT_LIMITS } from '../raft/raft-limits.js'
import type { Entry, HardState } from '../raft/raft-types.js'
import { type PartitionLog, StorageError } from '../storage/log-store.js'
import type { ReplicaGroupOptions } from './group-options.js'

interface HolderEvents {
  /** The core has been told that its term and vote are durable. */
  persisted(): void
  /** Another core is in the place of the one that was asked to go. */
  begunAnew(): void
  failed(error: unknown): void
}

export class CoreHolder {
  core: RaftCore<Entry>
  /** The core is to go as soon as nothing of it is under way; nothing may be asked of it until then. */
  beginsAnew = false
  /** Saves of term and vote that are under way. */
  #saving = 0
  /** Of the term and vote that were to be saved last. */
  #newest = 0
  #stopped = false

  constructor(
    private readonly options: ReplicaGroupOptions,
    private readonly events: HolderEvents,
  ) {
    this.core = this.#newCore(options.isRepairing, options.log.start.index - 1)
  }

  persist(sequence: number, hardState: HardState): void {
    this.#saving++
    this.#newest = sequence
    this.#save(sequence, hardState)
  }

  #save(sequence: number, hardState: HardState): void {
    this.options.votes.save(this.options.key, hardState).then(
      () => {
        this.#saving--
        if (this.#stopped) return
        if (this.beginsAnew) this.#replace()
        else this.core.hardStatePersisted(sequence)
        this.events.persisted()
      },
      (error: unknown) => {
        if (error instanceof StorageError && error.code === 'DISK_FULL') this.#saveLater(sequence, hardState)
        else this.events.failed(error)
      },
    )
  }

  /** A disk that is full now has space again some day: until then the replica says nothing that rests on its vote. */
  #saveLater(sequence: number, hardState: HardState): void {
    this.options.clock.timer(SPACE_RETRY_MS, () => {
      if (this.#stopped) return
      if (sequence === this.#newest) {
        this.#save(sequence, hardState)
        return
      }
      // A newer one says all of it, and was not behind this one in the journal.
      this.#saving--
      if (this.beginsAnew) this.#replace()
    })
  }

  /** What the core takes for part of the log will not be: it is made anew from what the log is, as after a restart. */
  beginAnew(): void {
    this.beginsAnew = true
    this.#replace()
  }

  stop(): void {
    this.#stopped = true
  }

  #replace(): void {
    if (this.#saving > 0) return
    this.beginsAnew = false
    const { commitIndex, isRepairing } = this.core
    this.core = this.#newCore(isRepairing, Math.min(commitIndex, this.options.log.filled.index))
    this.events.begunAnew()
  }

  #newCore(isRepairing: boolean, committed: number): RaftCore<Entry> {
    const { key, log, mode, votes, nodeId, configuration, configurations, random, leastTerm } = this.options
    const { index, previousTerm } = log.start
    const found = votes.find(key)
    return new RaftCore<Entry>({
      nodeId,
      limits: RAFT_LIMITS,
      random,
      hardState: hardStateOf(found, Math.max(log.filled.term, leastTerm)),
      start: { index, previousTerm, configuration: configurations.before(index) ?? configuration },
      terms: log.termRuns(),
      lastIndex: log.filled.index,
      durableIndex: durableIndexOf(log, mode),
      configurations: configurations.from(index),
      committed,
      isRepairing: isRepairing || found === 'lost',
    })
  }
}

/** @param leastTerm where there is nothing, or what there was is lost. */
function hardStateOf(found: HardState | 'lost' | null, leastTerm: number): HardState {
  // The log may be of a newer term than a vote that a crash has cut short.
  const isKnown = found !== null && found !== 'lost' && found.term >= leastTerm
  return isKnown ? found : { term: leastTerm, votedFor: 0 }
}

/** Index up to which a log is as durable as its group wants it. */
export function durableIndexOf(log: PartitionLog, mode: 'flush' | 'write'): number {
  return mode === 'flush' ? log.flushedIndex : log.writtenIndex
}
