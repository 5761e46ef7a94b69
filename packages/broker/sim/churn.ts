// A topic that comes and goes: made, used a little, given more partitions, removed, and made again under the same name. The
// history knows each of its lives by a name of its own: what one of them held must not show in another.
import type { ClusterMapView } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { mustBeMillraceError } from './app-context.js'
import type { TopicOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { createTopic, deleteTopic } from './topic-admin.js'

export const CHURN_TOPIC = 'churn'

/** One life of the topic. */
export interface Incarnation {
  /** In the history. */
  readonly name: string
  partitions: number
}

/** By then whoever was told to begin knows which topic it is about. */
const BOUND_AFTER_MS = 20
const RETRY_MS = 30
/** For runs of one broker, which are short. */
const LARGEST_LIFE_MS = 100

/** @returns the life that is left at the end; null where the topic was deleted. */
export async function churn(run: RunContext, meanGapMs: number): Promise<Incarnation | null> {
  return new Churn(run).work(meanGapMs)
}

class Churn {
  private readonly random: SeededRandom
  private readonly owner: SimulatedClient
  /** Knows of the topic by its map alone. */
  private readonly other: SimulatedClient
  private readonly ownMap: () => ClusterMapView | null
  private readonly otherMap: () => ClusterMapView | null
  private lives = 0
  private lastId = 0
  /** An attempt to delete the topic that nobody heard of again may still come through. */
  private mayBeDeleted = false

  constructor(private readonly run: RunContext) {
    this.random = run.random.split('churn')
    this.owner = run.population.newClient()
    this.other = run.population.newClient()
    this.ownMap = mapOf(this.owner)
    this.otherMap = mapOf(this.other)
  }

  async work(meanGapMs: number): Promise<Incarnation | null> {
    const { run, random } = this
    while (!run.isPeaceful) {
      await run.scheduler.sleep(random.exponential(meanGapMs))
      const life = await this.create()
      const keeps = random.chance(0.3)
      await this.use(life)
      if (run.isPeaceful && keeps && !this.mayBeDeleted) {
        run.coverage.count('topic of an old name kept')
        return life
      }
      await this.delete(life)
    }
    return null
  }

  private async create(): Promise<Incarnation> {
    const { run, random } = this
    const topic: TopicOptions = { name: CHURN_TOPIC, partitions: random.integer(1, 3), durability: 'flushed' }
    await createTopic(run.population.adminOf(this.owner), topic)
    run.coverage.count('topic created')
    const life = { name: `${CHURN_TOPIC}#${++this.lives}`, partitions: topic.partitions }
    run.recorder.incarnations.push(life)
    if (this.mayBeDeleted) run.recorder.topicDeleted(life.name)
    await run.until(`${life.name} is known to its owner`, () => this.idIn(this.ownMap()) > this.lastId)
    this.lastId = this.idIn(this.ownMap())
    return life
  }

  private async use(life: Incarnation): Promise<void> {
    const { run, random } = this
    const users = [this.begin(this.owner, life)]
    if (random.chance(0.5)) {
      await run.until(`${life.name} is known to others`, () => this.idIn(this.otherMap()) === this.lastId)
      users.push(this.begin(this.other, life))
    }
    await run.scheduler.sleep(BOUND_AFTER_MS)
    if (random.chance(0.4)) await this.raisePartitions(life)
    await run.scheduler.sleep(random.between(1, LARGEST_LIFE_MS))
    if (random.chance(0.4)) {
      // It is deleted under their hands. What a producer sends afterwards goes to whatever has the name then.
      for (const { producers } of users) producers.at(-1)!.halt()
      return
    }
    for (const { consumers } of users) consumers.at(-1)!.stop()
    const areDone = () => users.every(({ producers }) => producers.at(-1)!.finished)
    await run.until('the sends to the churning topic have ended', areDone)
  }

  private begin(client: SimulatedClient, { name: recordedAs }: Incarnation): SimulatedClient {
    const { producers, consumers } = this.run.options
    const common = { topic: CHURN_TOPIC, recordedAs }
    client.produce({ ...producers[0]!, ...common, keys: 3, meanGapMs: 1 }, this.random.integer(1, 20))
    client.consume({ ...consumers[0]!, ...common, from: 'earliest', untilEnd: false, isOnce: true })
    return client
  }

  private async raisePartitions(life: Incarnation): Promise<void> {
    const { run, random } = this
    life.partitions += random.integer(1, 2)
    run.recorder.keysMoved(life.name)
    for (;;) {
      try {
        await admin(this.owner.mill).alterTopic(CHURN_TOPIC, { partitions: life.partitions, breakKeyOrder: true })
        run.coverage.count('partitions added')
        return
      } catch (error) {
        mustBeMillraceError(error)
        // An attempt to delete it came through after all.
        if (error.code === 'ERR_MILLRACE_UNKNOWN_TOPIC') return
      }
      await run.scheduler.sleep(RETRY_MS)
    }
  }

  private async delete(life: Incarnation): Promise<void> {
    const { run } = this
    run.recorder.topicDeleted(life.name)
    const attempts = await deleteTopic(run.population.adminOf(this.owner), CHURN_TOPIC)
    this.mayBeDeleted = attempts > 1
    run.coverage.count('topic deleted')
  }

  /** 0 where the map does not hold the topic. */
  private idIn(map: ClusterMapView | null): number {
    return map?.topics.find(({ name }) => name === CHURN_TOPIC)?.topicId ?? 0
  }
}

/** What the map of a client was last. */
function mapOf({ mill }: SimulatedClient): () => ClusterMapView | null {
  let map: ClusterMapView | null = null
  mill.cluster.map$.subscribe({
    next: (view) => {
      map = view
    },
    error: mustBeMillraceError,
  })
  return () => map
}
