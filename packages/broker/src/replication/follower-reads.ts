// What followers get is read from the log of the leader: at once from memory, or when the disk has brought it.
import type { Clock, Timer } from '../environment.js'
import type { RaftCore } from '../raft/raft-core.js'
import type { Effect, Entry, NodeId } from '../raft/raft-types.js'
import { type LogKey, type LogRead, type PartitionLog, StorageError } from '../storage/log-store.js'
import type { CatchUpPace } from './catch-up-pace.js'
import type { GroupPeers } from './group-ports.js'

interface FollowerReadOptions {
  readonly key: LogKey
  readonly log: PartitionLog
  readonly peers: GroupPeers
  readonly clock: Clock
  readonly catchUp: CatchUpPace
  readonly report: (error: unknown) => void
}

interface FollowerReadEvents {
  isStopped(): boolean
  /** The core has been told: there may be effects. */
  done(): void
}

export class FollowerReads {
  /** Bytes of the log when each learner was sent something last. */
  readonly #bytesThen = new Map<NodeId, number>()
  /** Reads that wait for their pace. */
  readonly #waiting = new Set<Timer>()

  constructor(
    private readonly group: { readonly core: RaftCore<Entry> },
    private readonly options: FollowerReadOptions,
    private readonly events: FollowerReadEvents,
  ) {}

  /** A learner is brought to where the others are at a measured pace; what the log grows by meanwhile comes on top. */
  begin(effect: Effect<Entry> & { kind: 'read' }): void {
    if (!this.#isLearner(effect.to)) {
      this.#read(effect, 0)
      return
    }
    const { clock, catchUp } = this.options
    const waitMs = catchUp.waitMs()
    const dueMs = clock.monotonicMs() + waitMs
    const timer = clock.timer(waitMs, () => {
      this.#waiting.delete(timer)
      this.#read(effect, clock.monotonicMs() - dueMs)
    })
    this.#waiting.add(timer)
  }

  /** Reads that wait are not made any more. */
  stop(): void {
    for (const timer of this.#waiting) timer.cancel()
    this.#waiting.clear()
  }

  #isLearner(nodeId: NodeId): boolean {
    return this.group.core.configuration.learners.includes(nodeId)
  }

  #pay(to: NodeId, byteLength: number, lateMs: number): void {
    if (!this.#isLearner(to)) {
      this.#bytesThen.delete(to)
      return
    }
    const { bytesOnDisk } = this.options.log
    const grownBytes = Math.max(0, bytesOnDisk - (this.#bytesThen.get(to) ?? bytesOnDisk))
    this.#bytesThen.set(to, bytesOnDisk)
    this.options.catchUp.sent(byteLength, Math.max(0, byteLength - grownBytes), lateMs)
  }

  #read({ to, term, nextIndex, maxBytes }: Effect<Entry> & { kind: 'read' }, lateMs: number): void {
    if (this.events.isStopped()) return
    const failed = (error: unknown): void => this.#failed(to, term, error)
    try {
      const read = this.options.log.readFrom(nextIndex, maxBytes)
      if (read instanceof Promise) read.then((loaded) => this.#send(to, term, loaded, lateMs), failed)
      else this.#send(to, term, read, lateMs)
    } catch (error) {
      failed(error)
    }
  }

  #failed(to: NodeId, term: number, error: unknown): void {
    if (!(error instanceof StorageError)) this.options.report(error)
    if (this.events.isStopped()) return
    this.group.core.readFailed(to, term)
    this.events.done()
  }

  #send(to: NodeId, term: number, read: LogRead, lateMs: number): void {
    const { key, peers } = this.options
    if (this.events.isStopped()) {
      read.release()
      return
    }
    const header = read.batchCount === 0 ? null : this.group.core.entriesRead(to, term, entriesOf(read))
    if (header === null) {
      read.release()
      if (read.batchCount === 0) this.group.core.readFailed(to, term)
    } else {
      this.#pay(to, read.byteLength, lateMs)
      if (!peers.sendAppend(to, key, header, read)) this.group.core.unreachable(to)
    }
    this.events.done()
  }
}

/** What the core has to know of entries that were read: how many, and how long they are together. */
function entriesOf({ batchCount, byteLength }: LogRead): readonly Entry[] {
  const entry = { term: 0, configuration: null, byteLength: byteLength / batchCount }
  return new Array<Entry>(batchCount).fill(entry)
}
