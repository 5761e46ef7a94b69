// A topic, its coordinator and any number of members of one group in one fake world.
import { type Consumer, type ConsumerOptions, type Mill, type MillraceError, processEach } from '@millrace/client'
import { fill } from './batches.js'
import { FakeCoordinator } from './fake-coordinator.js'
import { begin, type Setting, Texts } from './setting.js'

export const LEASE_MS = 4_000

export interface GroupSetting extends Setting {
  readonly coordinator: FakeCoordinator
}

export interface TestMember {
  readonly mill: Mill
  readonly consumer: Consumer
  /** `partition/offset` of each record whose work has begun, in order. */
  readonly begun: string[]
  readonly done: string[]
  error: MillraceError | null
  completed: boolean
  unsubscribe(): void
}

/** `brokers` fake brokers, the topic `orders` with `records` in each of its partitions, ten in a batch. */
export function beginGroup(
  options: { readonly brokers?: number; readonly partitions?: number; readonly records?: number } = {},
): GroupSetting {
  const { brokers = 1, partitions = 4, records = 0 } = options
  const setting = begin({ brokers, partitions })
  const coordinator = new FakeCoordinator(setting.cluster, 'billing')
  for (let p = 0; p < partitions && records > 0; p++) fill(setting.cluster, 1, p, records, 10)
  return { ...setting, coordinator }
}

/** A member that works `workMs` on each record, or until it is told by `until`. */
export function join(
  { world, connect }: GroupSetting,
  clientId: string,
  options: Partial<ConsumerOptions> & {
    readonly workMs?: number
    readonly concurrency?: number
    readonly work?: (place: string) => Promise<void>
  } = {},
): TestMember {
  const { workMs = 0, concurrency = 1, work, ...consumerOptions } = options
  const mill = connect({ clientId })
  const consumer = mill.consumer({ group: 'billing', leaseMs: LEASE_MS, ...consumerOptions })
  const begun: string[] = []
  const done: string[] = []
  const member: TestMember = {
    mill,
    consumer,
    begun,
    done,
    error: null,
    completed: false,
    unsubscribe: () => subscription.unsubscribe(),
  }
  const subscription = consumer
    .subscribe(Texts)
    .pipe(
      processEach(
        async ({ partition, offset }) => {
          const place = `${partition}/${offset}`
          begun.push(place)
          if (work !== undefined) await work(place)
          else if (workMs > 0) await new Promise<void>((resolve) => world.at(workMs, resolve))
          done.push(place)
        },
        { concurrency },
      ),
    )
    .subscribe({
      error: (error) => (member.error = error),
      complete: () => (member.completed = true),
    })
  return member
}

/** Every record of the partitions, as `partition/offset`. */
export const everything = (partitions: number, records: number): string[] =>
  Array.from({ length: partitions }, (_, p) => Array.from({ length: records }, (_, n) => `${p}/${n}`)).flat()
