// A topic that comes and goes: made, used, given more partitions, removed, and made again under the same name. Each of its
// lives is a topic of its own in the history, so that a record of an earlier one is a record that does not belong there.
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { SeededRandom } from '../../sim/random.js'
import type { Recorder } from '../../sim/recorder.js'
import { follow, mustBeMillraceError, produce, readFinalLog } from './fault-apps.js'
import type { FaultTopic } from './fault-workload.js'
import type { Patience } from './patience.js'
import type { Turns } from './turns.js'

export type ChurnKind = 'create' | 'delete' | 'deleteInUse' | 'addPartitions'

export const CHURN_TOPIC = 'churn'
const MOST_PARTITIONS = 3
const MEAN_HALF_LIFE_MS = 1_500
const ADD_PARTITIONS_CHANCE = 0.4
const IN_USE_CHANCE = 0.4
/** Often there is no gap at all. */
const GAP_CHANCE = 0.3
const MEAN_GAP_MS = 1_000

export interface TopicChurnOptions {
  /** Any of them is taken for a life: what they know of the one before must not show. */
  readonly mills: readonly Mill[]
  readonly recorder: Recorder
  readonly random: SeededRandom
  readonly patience: Patience
  readonly replicas: number
  readonly beginnings: Turns
  readonly onOperation: (words: string) => void
}

export class TopicChurn {
  readonly counts: Partial<Record<ChurnKind, number>> = {}
  /** One for each life. */
  readonly topics: FaultTopic[] = []
  /** That of the topic as it is; null while there is none. */
  current: FaultTopic | null = null
  private work: Promise<void> = Promise.resolve()

  constructor(private readonly options: TopicChurnOptions) {}

  begin(): void {
    this.work = this.run()
    // Whoever awaits the end is told of it; until then it is not unhandled.
    this.work.catch(() => undefined)
  }

  /** @throws Error when it does not come to its end in peace. */
  async end(): Promise<void> {
    await this.work
  }

  private count(kind: ChurnKind): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    this.options.onOperation(`${kind} ${this.current?.label ?? CHURN_TOPIC}`)
  }

  private async run(): Promise<void> {
    const { patience, random } = this.options
    while (!patience.isPeace) {
      await this.live()
      if (random.chance(GAP_CHANCE)) await patience.pause(random.exponential(MEAN_GAP_MS))
    }
  }

  private async live(): Promise<void> {
    const { patience, random, mills, recorder } = this.options
    const mill = random.pick(mills)
    await this.create(mill, random.integer(1, MOST_PARTITIONS))
    const topic = this.current!
    let isOver = false
    const common = { topic, recorder, isOver: () => isOver }
    const apps = [
      produce({
        ...common,
        mill: random.pick(mills),
        name: `producer-${topic.label}`,
        random: random.split(topic.label),
        deliveryTimeoutMs: random.pick([3_000, 20_000]),
      }),
      follow({
        ...common,
        mill: random.pick(mills),
        name: `consumer-${topic.label}`,
        from: 'earliest',
        untilEnd: false,
      }),
    ]
    await patience.pause(random.exponential(MEAN_HALF_LIFE_MS))
    if (random.chance(ADD_PARTITIONS_CHANCE)) await this.addPartitions(mill)
    await patience.pause(random.exponential(MEAN_HALF_LIFE_MS))
    const isInUse = random.chance(IN_USE_CHANCE)
    if (isInUse) {
      await this.delete(mill, 'deleteInUse')
      recorder.topicDeleted(topic.label)
    }
    isOver = true
    await Promise.all(apps)
    if (isInUse) return
    await readFinalLog(mill, topic, this.current!.partitions, recorder)
    await this.delete(mill, 'delete')
  }

  private async create(mill: Mill, partitions: number): Promise<void> {
    const { patience, random, replicas, beginnings } = this.options
    const label = `${CHURN_TOPIC}#${this.topics.length + 1}`
    const durability = random.pick(['flushed', 'buffered'] as const)
    const topic = { name: CHURN_TOPIC, label, durability, partitions, replicas }
    const creation = (): Promise<object> =>
      doneOr('ERR_MILLRACE_TOPIC_EXISTS', () =>
        admin(mill).createTopic(CHURN_TOPIC, { partitions, durability, replicas }),
      )
    await beginnings.take(() => patience.until(`${label} created`, creation))
    this.note(topic)
    this.count('create')
  }

  private note(topic: FaultTopic): void {
    const known = this.topics.findIndex(({ label }) => label === topic.label)
    if (known < 0) this.topics.push(topic)
    else this.topics[known] = topic
    this.current = topic
  }

  private async addPartitions(mill: Mill): Promise<void> {
    const topic = this.current!
    const partitions = topic.partitions + 1
    const { beginnings, patience } = this.options
    const addition = async (): Promise<object> => {
      const { partitions: now } = (await admin(mill).listTopics()).find(({ name }) => name === CHURN_TOPIC)!
      if (now !== partitions) await admin(mill).alterTopic(CHURN_TOPIC, { partitions, breakKeyOrder: true })
      return {}
    }
    await beginnings.take(() => patience.until(`${topic.label} with ${partitions} partitions`, addition))
    this.note({ ...topic, partitions, hasMorePartitions: true })
    this.count('addPartitions')
  }

  private async delete(mill: Mill, kind: ChurnKind): Promise<void> {
    const { label } = this.current!
    await this.options.patience.until(`${label} deleted`, () =>
      doneOr('ERR_MILLRACE_UNKNOWN_TOPIC', () => admin(mill).deleteTopic(CHURN_TOPIC)),
    )
    this.count(kind)
    this.current = null
  }
}

/** Whether it is done now, or an attempt before whose answer got lost turns out to have done it. */
async function doneOr(code: string, work: () => Promise<unknown>): Promise<object> {
  try {
    await work()
  } catch (error) {
    mustBeMillraceError(error)
    if (error.code !== code) throw error
  }
  return {}
}
