// An application that is a member of a consumer group: one life after the other. Every delivery and all work is written down
// with the life of the assignment that it belongs to.
import {
  type Assignment,
  type ConsumerOptions,
  type ConsumerRecord,
  processByKey,
  processByPartition,
} from '@millrace/client'
import { tap } from 'rxjs'
import { mustBeMillraceError } from './app-context.js'
import type { AssignmentLife, GroupDelivery, GroupWork, WorkStep } from './checker/group-history.js'
import type { Coverage } from './coverage.js'
import type { GroupPlan } from './group-plan.js'
import type { SeededRandom } from './random.js'
import type { Scheduler } from './scheduler.js'
import type { SimulatedClient } from './simulated-client.js'

export const GROUP = 'billing'
const RETRY_MS = 50
const CLOSE_MS = 5_000

type BytesRecord = ConsumerRecord<Uint8Array, Uint8Array>

interface GroupAppWorld {
  readonly plan: GroupPlan
  readonly scheduler: Scheduler
  readonly coverage: Coverage
  readonly random: SeededRandom
  readonly deliveries: GroupDelivery[]
  readonly work: GroupWork[]
}

export class GroupApp {
  /** It was stopped, and has ended. */
  isOver = false
  private lives = 0
  private isStopping = false
  /** Its consumer is closing: what it gives up is neither asked for nor lost. */
  private isClosing = false
  private isLost = false
  /** Another process has been started under its name. */
  private isReplaced = false
  private slowUntilMs = 0
  private close: (() => Promise<void>) | null = null
  private readonly assigned = new Map<number, AssignmentLife>()
  private revoking: readonly number[] = []
  private readonly working = new Set<GroupDelivery>()

  constructor(
    readonly client: SimulatedClient,
    /** Null: nobody takes over from it. */
    readonly memberName: string | null,
    private readonly world: GroupAppWorld,
  ) {
    client.mill.status$.subscribe(({ kind }) => {
      if (kind === 'group-lost') this.noteLoss()
    })
  }

  /** Resolves when it was stopped; never once its process is dead. */
  async run(): Promise<void> {
    while (!this.isStopping) {
      await this.live()
      await this.sleep(RETRY_MS)
    }
    this.isOver = true
  }

  /** Closes its consumer, which commits and leaves; another life follows. */
  async rest(): Promise<void> {
    this.isClosing = true
    await this.close?.().catch(mustBeMillraceError)
  }

  async stop(): Promise<void> {
    this.isStopping = true
    await this.rest()
  }

  /** Another process is about to be started under its name. */
  replace(): void {
    this.isReplaced = true
  }

  /** Work that begins from now on for so long outlives the lease. */
  slowFor(lengthMs: number): void {
    this.slowUntilMs = this.world.scheduler.nowMs + lengthMs
  }

  private live(): Promise<void> {
    const { plan } = this.world
    const options: ConsumerOptions = {
      group: GROUP,
      leaseMs: plan.leaseMs,
      commitIntervalMs: plan.commitIntervalMs,
      ...(this.memberName === null ? {} : { memberName: this.memberName }),
    }
    const consumer = this.client.mill.consumer(options)
    const member = `${this.client.name}.${++this.lives}`
    this.isClosing = false
    this.isLost = false
    this.assigned.clear()
    this.revoking = []
    const watching = consumer.assignment$.subscribe((assignment) => this.noteAssignment(member, assignment))
    this.close = () => consumer.close({ timeoutMs: CLOSE_MS })
    const given = new WeakMap<BytesRecord, GroupDelivery>()
    return new Promise((resolve, reject) => {
      const over = (error?: unknown): void => {
        watching.unsubscribe()
        this.close = null
        try {
          if (error !== undefined) this.mustBeFate(error)
          resolve()
        } catch (bug) {
          reject(bug)
        }
      }
      const records = consumer.subscribe(plan.topic, { from: 'earliest' })
      const noted = records.pipe(tap((record) => given.set(record, this.noteDelivery(member, record))))
      const operator = plan.processing === 'byKey' ? processByKey : processByPartition
      const work = operator((record: BytesRecord) => this.handle(record, given.get(record)!), {
        concurrency: plan.concurrency,
      })
      noted.pipe(work).subscribe({ error: over, complete: () => over() })
    })
  }

  /** Whoever was replaced does not come back. */
  private mustBeFate(error: unknown): void {
    mustBeMillraceError(error)
    if (error.code !== 'ERR_MILLRACE_MEMBER_FENCED') return
    this.isStopping = true
    this.world.coverage.count('group: member fenced on its return')
  }

  private noteLoss(): void {
    const { coverage } = this.world
    this.isLost = true
    coverage.count('group: lease ran out')
    if (this.working.size > 0) coverage.count('group: lease ran out while a handler ran')
  }

  private noteAssignment(member: string, { partitions, revoking }: Assignment): void {
    const { scheduler, work, coverage } = this.world
    for (const [partition, life] of [...this.assigned]) {
      if (partitions.includes(partition)) continue
      this.assigned.delete(partition)
      const wasAsked = this.revoking.includes(partition) && !this.isLost
      if (wasAsked) coverage.count('group: partition given back')
      if (!this.isClosing) work.push({ kind: wasAsked ? 'released' : 'lost', ...life })
    }
    for (const partition of partitions) {
      if (this.assigned.has(partition)) continue
      this.assigned.set(partition, { member, partition, assignedAtMs: scheduler.nowMs })
    }
    this.revoking = revoking
    this.isLost = false
  }

  private noteDelivery(member: string, { partition, offset }: BytesRecord): GroupDelivery {
    const atMs = this.world.scheduler.nowMs
    const life = this.assigned.get(partition) ?? { member, partition, assignedAtMs: atMs }
    const delivery = { ...life, offset, atMs, isReplaced: this.isReplaced }
    this.world.deliveries.push(delivery)
    return delivery
  }

  private async handle({ key }: BytesRecord, delivery: GroupDelivery): Promise<void> {
    const { work } = this.world
    const { member, partition, assignedAtMs, offset } = delivery
    const name = key === null ? null : Buffer.from(key).toString('latin1')
    const step: Omit<WorkStep, 'kind'> = { member, partition, assignedAtMs, offset, key: name }
    work.push({ kind: 'begun', ...step })
    this.working.add(delivery)
    await this.sleep(this.drawWorkMs())
    this.working.delete(delivery)
    work.push({ kind: 'ended', ...step })
  }

  private drawWorkMs(): number {
    const { random, plan, scheduler } = this.world
    const isLong = scheduler.nowMs < this.slowUntilMs || random.chance(plan.longWorkRate)
    return isLong ? 2 * plan.leaseMs : random.exponential(plan.meanWorkMs)
  }

  /** For ever once the process is dead. */
  private sleep(delayMs: number): Promise<void> {
    const { process } = this.client.environment
    return new Promise((resolve) => this.world.scheduler.schedule(process, delayMs, 'group', resolve))
  }
}
