// An application that is a member of a consumer group: one life after the other, every delivery written down with the life of
// the assignment that it belongs to.
import { type ConsumerOptions, type Mill, processByKey } from '@millrace/client'
import { tap } from 'rxjs'
import { mustBeMillraceError } from './app-context.js'
import type { GroupDelivery } from './checker/check-groups.js'
import type { SeededRandom } from './random.js'
import type { Scheduler } from './scheduler.js'
import type { SimulatedClient } from './simulated-client.js'

export const GROUP = 'billing'
const LEASE_MS = 1_500
const COMMIT_INTERVAL_MS = 200
const MEAN_WORK_MS = 15
/** Longer than the lease: it must outlive any handler. */
const LONG_WORK_MS = 2_500
const LONG_WORK_RATE = 0.004
const RETRY_MS = 50

export class GroupApp {
  private lives = 0
  private isStopping = false
  private close: (() => Promise<void>) | null = null

  constructor(
    readonly client: SimulatedClient,
    /** Null: nobody takes over from it. */
    readonly memberName: string | null,
    private readonly topic: string,
    private readonly scheduler: Scheduler,
    private readonly random: SeededRandom,
    private readonly deliveries: GroupDelivery[],
  ) {}

  /** Resolves when it was stopped; never once its process is dead. */
  async run(): Promise<void> {
    while (!this.isStopping) {
      await this.live(this.client.mill)
      await this.sleep(RETRY_MS)
    }
  }

  /** Closes its consumer, which commits and leaves; another life follows. */
  async rest(): Promise<void> {
    await this.close?.().catch(mustBeMillraceError)
  }

  async stop(): Promise<void> {
    this.isStopping = true
    await this.rest()
  }

  private live(mill: Mill): Promise<void> {
    const options: ConsumerOptions = {
      group: GROUP,
      leaseMs: LEASE_MS,
      commitIntervalMs: COMMIT_INTERVAL_MS,
      ...(this.memberName === null ? {} : { memberName: this.memberName }),
    }
    const consumer = mill.consumer(options)
    const member = `${this.client.name}.${++this.lives}`
    const assigned = new Map<number, number>()
    const watching = consumer.assignment$.subscribe(({ partitions }) => {
      for (const partition of [...assigned.keys()]) if (!partitions.includes(partition)) assigned.delete(partition)
      for (const partition of partitions) {
        if (!assigned.has(partition)) assigned.set(partition, this.scheduler.nowMs)
      }
    })
    this.close = () => consumer.close({ timeoutMs: 5_000 })
    return new Promise((resolve, reject) => {
      const over = (error?: unknown): void => {
        watching.unsubscribe()
        this.close = null
        try {
          if (error !== undefined) mustBeMillraceError(error)
          resolve()
        } catch (bug) {
          reject(bug)
        }
      }
      const records = consumer.subscribe(this.topic, { from: 'earliest' })
      const noted = records.pipe(
        tap(({ partition, offset }) => {
          const atMs = this.scheduler.nowMs
          this.deliveries.push({ member, partition, offset, atMs, assignedAtMs: assigned.get(partition) ?? atMs })
        }),
      )
      noted.pipe(processByKey(() => this.work(), { concurrency: 4 })).subscribe({ error: over, complete: () => over() })
    })
  }

  private work(): Promise<void> {
    const { random } = this
    return this.sleep(random.chance(LONG_WORK_RATE) ? LONG_WORK_MS : random.exponential(MEAN_WORK_MS))
  }

  /** For ever once the process is dead. */
  private sleep(delayMs: number): Promise<void> {
    const { process } = this.client.environment
    return new Promise((resolve) => this.scheduler.schedule(process, delayMs, 'group', resolve))
  }
}
