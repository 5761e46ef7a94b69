// A consumer group in a cluster that is not well: members are killed, cut off for longer than their leases, and rest; brokers, and
// with them coordinators, are killed; handlers go on meanwhile. Then peace: everything must have been given to somebody, and be
// committed. Groups ride along in other runs too; here nothing else happens.
import type { BrokerNode } from './broker-node.js'
import { NO_FAULTS } from './focus.js'
import type { GroupPlan } from './group-plan.js'
import { GroupWorkload } from './group-workload.js'
import { optionsOf, type ProducerPlan, type SimulationOptions, type TopicOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import { runSimulation } from './simulation.js'
import { QUIET, type SimulationOutput, type SimulationResult } from './simulation-result.js'

const BROKERS = 3
const RECORDS = 400
const TROUBLES = 10
const MEAN_GAP_MS = 900
const LOOK_MS = 5

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

const GROUP_PLAN: Omit<GroupPlan, 'topic' | 'memberNames'> = {
  processing: 'byKey',
  concurrency: 4,
  leaseMs: 1_500,
  commitIntervalMs: 200,
  meanWorkMs: 15,
  longWorkRate: 0.004,
  troubles: { killMs: null, cutMs: null, restMs: null, resizeMs: null, replaceMs: null, coordinatorMs: null },
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
    group: null,
  }
}

export interface GroupTrialResult extends SimulationResult {
  /** What befell the group, and what it was given. */
  readonly counts: Readonly<Record<string, number>>
}

export async function runGroupTrial(seed: number, output: SimulationOutput = QUIET): Promise<GroupTrialResult> {
  let given = 0
  const result = await runSimulation(optionsFor(seed), output, async (run) => {
    const trial = new GroupTrial(run)
    await trial.suffer()
    given = trial.recordsGiven
  })
  const ofGroups = Object.entries(result.coverage).filter(([state]) => state.startsWith('group: '))
  return { ...result, counts: { ...Object.fromEntries(ofGroups), 'records given': given } }
}

class GroupTrial {
  private readonly random: SeededRandom
  private readonly topic: TopicOptions
  private readonly group: GroupWorkload
  private isOver = false

  constructor(private readonly run: RunContext) {
    this.random = run.random.split('group trial')
    this.topic = run.options.topics[0]!
    const size = this.random.integer(2, 4)
    const memberNames = Array.from({ length: size }, (_, i) => (this.random.chance(0.4) ? `member-${i}` : null))
    this.group = new GroupWorkload(run, { ...GROUP_PLAN, topic: this.topic.name, memberNames })
  }

  get recordsGiven(): number {
    return this.group.deliveries.length
  }

  async suffer(): Promise<void> {
    const { run, random, group } = this
    const sender = run.population.newClient()
    sender.produce({ ...PRODUCER, topic: this.topic.name }, RECORDS)
    group.begin()
    void this.look()
    for (let trouble = 0; trouble < TROUBLES && !run.hasFailed; trouble++) {
      await run.scheduler.sleep(random.exponential(MEAN_GAP_MS))
      await this.trouble()
    }
    run.cluster.network.heal()
    for (const node of run.cluster.nodes) if (node.state === 'off') node.start()
    await run.until('everything is sent', () => sender.producers.every(({ finished }) => finished))
    await group.end(this.ends())
    this.isOver = true
  }

  private async look(): Promise<void> {
    while (!this.isOver) {
      this.group.look()
      await this.run.scheduler.sleep(LOOK_MS)
    }
  }

  private async trouble(): Promise<void> {
    const { random, run, group } = this
    switch (random.pick(['kill', 'kill', 'cut', 'rest', 'broker', 'broker', 'resize', 'replace'])) {
      case 'kill':
        return group.killMember()
      case 'cut':
        return group.cutMember(random)
      case 'rest':
        return group.restMember()
      case 'resize':
        return group.resize(random)
      case 'replace':
        return group.replaceMember(random)
      default:
        await this.killBroker(random.pick(run.cluster.nodes))
    }
  }

  private async killBroker(node: BrokerNode): Promise<void> {
    const { random, run } = this
    run.coverage.count('broker killed')
    node.kill()
    await run.scheduler.sleep(random.between(50, 2_500))
    node.start()
  }

  private ends(): number[] {
    const { topic, run } = this
    const ends = Array.from({ length: topic.partitions }, () => 0)
    for (const { topic: name, partition, offset } of run.recorder.positions()) {
      if (name === topic.name) ends[partition] = Math.max(ends[partition]!, offset + 1)
    }
    return ends
  }
}
