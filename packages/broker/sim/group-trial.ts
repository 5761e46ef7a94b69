// A consumer group in a cluster that is not well: members are killed, cut off for longer than their leases, and rest; brokers, and
// with them coordinators, are killed; handlers go on meanwhile. Then peace: everything must have been given to somebody, and be
// committed.
import type { BrokerNode } from './broker-node.js'
import { checkGroup, type GroupDelivery } from './checker/check-groups.js'
import { NO_FAULTS } from './focus.js'
import { GROUP, GroupApp } from './group-app.js'
import { optionsOf, type ProducerPlan, type SimulationOptions, type TopicOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import { runSimulation } from './simulation.js'
import { QUIET, type SimulationOutput, type SimulationResult } from './simulation-result.js'

const BROKERS = 3
const RECORDS = 400
const TROUBLES = 10
const MEAN_GAP_MS = 900

const PRODUCER: Omit<ProducerPlan, 'topic'> = {
  acks: 'all',
  codec: 'none',
  batchBytes: 1024,
  inFlightBatches: 4,
  deliveryTimeoutMs: 120_000,
  keys: 20,
  records: RECORDS,
  burst: 5,
  meanGapMs: 90,
  largestValueBytes: 50,
  nullRate: 0,
  batched: false,
}

function optionsFor(seed: number): SimulationOptions {
  const options = optionsOf(seed, BROKERS)
  const topic: TopicOptions = { name: 'orders', partitions: 1 + (seed % 6), durability: 'flushed' }
  return {
    ...options,
    // Leases are promised by clocks that run alike.
    clocks: options.clocks.map((clock) => ({ ...clock, clockRate: 1 })),
    topics: [topic],
    producers: [],
    consumers: [],
    faults: { ...options.faults, ...NO_FAULTS },
    triesLiveness: false,
    losesMetadata: false,
    probesBounds: false,
    rots: false,
  }
}

export interface GroupTrialResult extends SimulationResult {
  /** What befell the group, and what it was given. */
  readonly counts: Readonly<Record<string, number>>
}

export async function runGroupTrial(seed: number, output: SimulationOutput = QUIET): Promise<GroupTrialResult> {
  const counts: Record<string, number> = {}
  const result = await runSimulation(optionsFor(seed), output, (run) => new GroupTrial(run, counts).suffer())
  return { ...result, counts }
}

class GroupTrial {
  private readonly random: SeededRandom
  private readonly topic: TopicOptions
  private readonly deliveries: GroupDelivery[] = []
  private apps: GroupApp[] = []

  constructor(
    private readonly run: RunContext,
    private readonly counts: Record<string, number>,
  ) {
    this.random = run.random.split('group')
    this.topic = run.options.topics[0]!
  }

  async suffer(): Promise<void> {
    const { run, random } = this
    const sender = run.population.newClient()
    sender.produce({ ...PRODUCER, topic: this.topic.name }, RECORDS)
    const size = random.integer(2, 4)
    for (let i = 0; i < size; i++) this.addMember(random.chance(0.4) ? `member-${i}` : null)
    for (let trouble = 0; trouble < TROUBLES && !run.hasFailed; trouble++) {
      await run.scheduler.sleep(random.exponential(MEAN_GAP_MS))
      await this.trouble()
    }
    run.cluster.network.heal()
    for (const node of run.cluster.nodes) if (node.state === 'off') node.start()
    await run.until('everything is sent', () => sender.producers.every(({ finished }) => finished))
    await this.judge()
  }

  private addMember(memberName: string | null): void {
    const { run, random, topic, deliveries } = this
    const client = run.population.newClient()
    const app = new GroupApp(client, memberName, topic.name, run.scheduler, random.split(client.name), deliveries)
    this.apps.push(app)
    app.run().catch((error: unknown) => run.fail('exception', String(error)))
  }

  private async trouble(): Promise<void> {
    const { random, run } = this
    const { cluster, scheduler } = run
    const app = random.pick(this.apps)
    switch (random.pick(['kill', 'kill', 'cut', 'rest', 'broker', 'broker', 'join'])) {
      case 'kill':
        this.count('member killed')
        app.client.kill()
        this.apps = this.apps.filter((other) => other !== app)
        this.addMember(app.memberName)
        return
      case 'cut': {
        this.count('member cut off')
        for (const host of cluster.hosts) {
          cluster.network.cut(host, app.client.name)
          cluster.network.cut(app.client.name, host)
        }
        await scheduler.sleep(random.between(200, 4_000))
        cluster.network.heal()
        return
      }
      case 'rest':
        this.count('member rested')
        void app.rest()
        return
      case 'join':
        this.count('member joined')
        if (this.apps.length < 6) this.addMember(null)
        return
      default:
        await this.killBroker(random.pick(cluster.nodes))
    }
  }

  private async killBroker(node: BrokerNode): Promise<void> {
    const { random, run } = this
    this.count('broker killed under a group')
    node.kill()
    await run.scheduler.sleep(random.between(50, 2_500))
    node.start()
  }

  /** What is there is given to somebody, committed by him, and nothing else is. */
  private async judge(): Promise<void> {
    const { run, topic, deliveries } = this
    const ends = Array.from({ length: topic.partitions }, () => 0)
    for (const { topic: name, partition, offset } of run.recorder.positions()) {
      if (name === topic.name) ends[partition] = Math.max(ends[partition]!, offset + 1)
    }
    const isDone = (): boolean => {
      const committed = this.committed()
      return ends.every((end, partition) => (committed[partition] ?? 0) >= end)
    }
    await run.until(
      () => `the group has committed everything: ${this.committed().join(', ')} of ${ends.join(', ')}`,
      () => run.hasFailed || isDone(),
    )
    this.counts['records given'] = deliveries.length
    const committed = this.committed()
    for (const { invariant, message } of checkGroup({ deliveries, ends, committed })) run.fail(invariant, message)
    for (const app of this.apps) await this.stop(app)
  }

  /** As whoever coordinates the group in the newest term has it; nothing while nobody does. */
  private committed(): readonly number[] {
    const served = this.run.cluster.nodes.flatMap(({ broker }) => [...(broker?.coordination.served() ?? [])])
    const mine = served.filter(({ state }) => state.describe(GROUP) !== null).sort((a, b) => b.term - a.term)[0]
    const committed: number[] = []
    for (const { partition, offset } of mine?.state.describe(GROUP)?.offsets ?? []) committed[partition] = offset
    return committed
  }

  private async stop(app: GroupApp): Promise<void> {
    let isOver = false
    void app.stop().then(() => {
      isOver = true
    })
    await this.run.until(`${app.client.name} has left the group`, () => isOver)
  }

  private count(name: string): void {
    this.counts[name] = (this.counts[name] ?? 0) + 1
  }
}
