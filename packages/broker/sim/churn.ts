// A topic that comes and goes: made, used a little, removed, and made again under the same name.

import type { TopicOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { createTopic, deleteTopic } from './topic-admin.js'

export const CHURN_TOPIC = 'churn'

export async function churn(run: RunContext, meanGapMs: number): Promise<void> {
  const { population, coverage, recorder } = run
  const client = population.newClient()
  const admin = population.adminOf(client)
  const random = run.random.split('churn')
  while (!run.isPeaceful) {
    await run.scheduler.sleep(random.exponential(meanGapMs))
    const topic: TopicOptions = { name: CHURN_TOPIC, partitions: random.integer(1, 3), durability: 'flushed' }
    await createTopic(admin, topic)
    coverage.count('topic created')
    await useIt(run, client, random)
    await deleteTopic(admin, CHURN_TOPIC)
    recorder.topicDeleted(CHURN_TOPIC)
    coverage.count('topic deleted')
  }
}

async function useIt(run: RunContext, client: SimulatedClient, random: SeededRandom): Promise<void> {
  const { producers, consumers } = run.options
  client.produce({ ...producers[0]!, topic: CHURN_TOPIC, keys: 3, meanGapMs: 1 }, random.integer(1, 20))
  client.consume({ ...consumers[0]!, topic: CHURN_TOPIC, from: 'earliest', untilEnd: false })
  await run.scheduler.sleep(random.between(1, 100))
  client.consumers.at(-1)!.stop()
  await run.until('the sends to the churning topic have ended', () => client.producers.at(-1)!.finished)
}
