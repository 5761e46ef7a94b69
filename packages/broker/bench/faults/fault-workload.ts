// Applications of the real client on a cluster that is being hurt, for as long as it is.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { SeededRandom } from '../../sim/random.js'
import type { Recorder } from '../../sim/recorder.js'
import { type AppTopic, follow, KEYS, mustBeMillraceError, newMill, produce, readFinalLog } from './fault-apps.js'
import type { Patience } from './patience.js'

export interface FaultTopic extends AppTopic {
  readonly durability: 'flushed' | 'buffered'
  readonly partitions: number
  /** Of each partition. */
  readonly replicas: number
  /** Whether it got partitions while it was used: the records of a key are in more than one then. */
  readonly hasMorePartitions?: boolean
}

/** It is given more partitions while it is used. */
export const GROWING_TOPIC = 'growing'
/** As they begin. */
export const FAULT_TOPICS = [
  { name: 'flushed', durability: 'flushed', partitions: 4 },
  { name: 'buffered', durability: 'buffered', partitions: 4 },
  { name: GROWING_TOPIC, durability: 'flushed', partitions: 2 },
] as const

const CLIENTS = 3
const MEAN_SESSION_MS = 5_000
const WHOLE_SESSION_CHANCE = 0.1
const AGAIN_MS = 200
const CLOSING_MS = 5_000

export class FaultWorkload {
  longestStallMs = 0
  private readonly mills: Mill[] = []
  private lastAckMs = performance.now()
  private stopping = false
  private readonly work: Promise<void>[] = []

  constructor(
    private readonly bootstrap: () => readonly string[],
    private readonly random: SeededRandom,
    private readonly recorder: Recorder,
  ) {}

  async createTopics(replicas: number, patience: Patience): Promise<void> {
    const operator = admin(this.newMill())
    for (const { name, durability, partitions } of FAULT_TOPICS) {
      await patience.until(`the topic ${name}`, async () => {
        if ((await operator.listTopics()).some((topic) => topic.name === name)) return {}
        return operator.createTopic(name, { durability, partitions, replicas })
      })
    }
  }

  begin(): void {
    this.lastAckMs = performance.now()
    for (let client = 1; client <= CLIENTS; client++) {
      const mill = this.newMill()
      for (const { name } of FAULT_TOPICS) {
        // One application is enough to see what becomes of a topic that grows.
        if (name === GROWING_TOPIC && client > 1) continue
        this.work.push(this.produce(mill, name, `producer-${client}-${name}`))
        this.work.push(this.consume(mill, name, `consumer-${client}-${name}`, client === 1))
      }
    }
  }

  /** A client that the others do not share; closed with them. */
  newMill(): Mill {
    const mill = newMill(this.bootstrap())
    this.mills.push(mill)
    return mill
  }

  /** The node that leads some partition, as a client knows it. */
  async leader(): Promise<number | null> {
    const key = Buffer.from(`key-${this.random.integer(0, KEYS - 1)}`)
    try {
      const { nodeId } = await this.mills[0]!.cluster.whereIs(this.random.pick(FAULT_TOPICS).name, key)
      return nodeId === 0 ? null : nodeId
    } catch (error) {
      mustBeMillraceError(error)
      return null
    }
  }

  /** No further sends; resolves when every one has its outcome and every session has ended. */
  async end(): Promise<void> {
    this.stopping = true
    await Promise.all(this.work)
  }

  /**
   * A client without a past reads everything.
   * @param others topics that are there besides. @returns all topics of the history that are there.
   * @throws Error when that cannot be done in time.
   */
  async readFinalLogs(others: readonly FaultTopic[], replicas: number): Promise<readonly FaultTopic[]> {
    const mill = this.newMill()
    const known = await admin(mill).listTopics()
    const own = FAULT_TOPICS.map((topic): FaultTopic => {
      const partitions = known.find(({ name }) => name === topic.name)?.partitions ?? topic.partitions
      const hasMorePartitions = partitions > topic.partitions
      return { ...topic, label: topic.name, partitions, replicas, hasMorePartitions }
    })
    const all = [...own, ...others]
    for (const topic of all) await readFinalLog(mill, topic, topic.partitions, this.recorder)
    return all
  }

  /** Ends what still runs, which after a failure is everything. */
  async close(): Promise<void> {
    this.stopping = true
    await Promise.race([Promise.allSettled(this.work), sleep(CLOSING_MS)])
    await Promise.all(this.mills.map((mill) => mill.close({ timeoutMs: 2_000 }).catch(mustBeMillraceError)))
  }

  private produce(mill: Mill, name: string, producerName: string): Promise<void> {
    const random = this.random.split(producerName)
    return produce({
      mill,
      random,
      topic: { name, label: name },
      name: producerName,
      recorder: this.recorder,
      // Some give up soon, so that outcomes are unknown while brokers are away.
      deliveryTimeoutMs: random.pick([3_000, 20_000, 60_000]),
      isOver: () => this.stopping,
      onAcknowledged: () => this.noteAck(),
    })
  }

  private noteAck(): void {
    const now = performance.now()
    this.longestStallMs = Math.max(this.longestStallMs, now - this.lastAckMs)
    this.lastAckMs = now
  }

  /** One session after the other; who `follows` has one, from the first record on. */
  private async consume(mill: Mill, name: string, consumerName: string, follows: boolean): Promise<void> {
    const random = this.random.split(consumerName)
    for (let session = 1; !this.stopping; session++) {
      const untilEnd = !follows && random.chance(WHOLE_SESSION_CHANCE)
      const limitMs = follows || untilEnd ? Number.POSITIVE_INFINITY : random.exponential(MEAN_SESSION_MS)
      const endAtMs = performance.now() + limitMs
      await follow({
        mill,
        topic: { name, label: name },
        name: `${consumerName}.${session}`,
        recorder: this.recorder,
        from: follows || untilEnd ? 'earliest' : 'latest',
        untilEnd,
        isOver: () => this.stopping || performance.now() >= endAtMs,
      })
      await sleep(AGAIN_MS)
    }
  }
}
