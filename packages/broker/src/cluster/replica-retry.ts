// Replicas that should be on this node and do not do their part: what could not be opened is tried again, and what is damaged
// beyond repair begins anew once it is certain that others have everything.
import type { Clock } from '../environment.js'
import { LONGEST_REPLICA_RETRY_MS, REPLICA_RETRY_STEP_MS } from '../limits.js'
import type { LackingReplica } from '../shard.js'
import { keyText } from '../storage/group-envelope.js'
import type { LogKey } from '../storage/log-store.js'
import { RepeatedStep } from './repeated-step.js'

export interface ReplicaRetryOptions {
  readonly clock: Clock
  readonly lacking: () => Iterable<LackingReplica>
  /** Opens it, if that can be done now. Always resolves. */
  readonly reopen: (key: LogKey) => Promise<void>
  /** Whether everything that was ever committed is to be had from others. Resolves with false where nobody can say. */
  readonly haveOthersAll: (key: LogKey) => Promise<boolean>
  /** Gives up what is there, and begins anew. Always resolves. */
  readonly renew: (key: LogKey) => Promise<void>
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

interface Waiting {
  pauseMs: number
  dueMs: number
}

export class ReplicaRetry {
  readonly #options: ReplicaRetryOptions
  readonly #waiting = new Map<string, Waiting>()
  readonly #repeated: RepeatedStep

  constructor(options: ReplicaRetryOptions) {
    this.#options = options
    const { clock, report } = options
    this.#repeated = new RepeatedStep({ clock, everyMs: REPLICA_RETRY_STEP_MS, step: () => this.#step(), report })
  }

  start(): void {
    this.#repeated.start()
  }

  stop(): void {
    this.#repeated.stop()
  }

  async #step(): Promise<void> {
    const lacking = [...this.#options.lacking()]
    const names = new Set(lacking.map(({ key }) => keyText(key)))
    for (const name of [...this.#waiting.keys()]) if (!names.has(name)) this.#waiting.delete(name)
    for (const replica of lacking) {
      if (this.#repeated.isStopped) return
      if (this.#isDue(keyText(replica.key))) await this.#attempt(replica)
    }
  }

  /** The first time is a step after it was met, and each pause twice as long as the one before. */
  #isDue(name: string): boolean {
    const now = this.#options.clock.monotonicMs()
    const known = this.#waiting.get(name)
    if (known !== undefined && now < known.dueMs) return false
    const pauseMs = known === undefined ? REPLICA_RETRY_STEP_MS : Math.min(2 * known.pauseMs, LONGEST_REPLICA_RETRY_MS)
    this.#waiting.set(name, { pauseMs, dueMs: now + pauseMs })
    return true
  }

  async #attempt({ key, isDamaged }: LackingReplica): Promise<void> {
    const { reopen, haveOthersAll, renew } = this.#options
    if (!isDamaged) await reopen(key)
    else if (await haveOthersAll(key)) await renew(key)
  }
}
