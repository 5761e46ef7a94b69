// A simulated cluster, of three unless told otherwise, on which nothing happens by chance: what named histories need to say what happens.
import { expect } from 'vitest'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from '../../sim/broker-node.js'
import { NO_FAULTS } from '../../sim/focus.js'
import type { ConsumerPlan, ProducerPlan, SimulationOptions, TopicOptions } from '../../sim/options.js'
import { optionsOf } from '../../sim/options.js'
import type { RunContext } from '../../sim/run-context.js'
import type { SimulatedClient } from '../../sim/simulated-client.js'
import { runSimulation } from '../../sim/simulation.js'
import type { SimulationResult } from '../../sim/simulation-result.js'

const SEED = 1
export const ORDERS: TopicOptions = { name: 'orders', partitions: 1, durability: 'flushed' }
/** Old records go as soon as a slot is full. */
export const SHORT_ORDERS: TopicOptions = { ...ORDERS, retentionBytes: 1 }
const TEAR = { garbage: 0, zero: 0, newer: 0.5 }

const PRODUCER: ProducerPlan = {
  topic: ORDERS.name,
  acks: 'all',
  codec: 'none',
  batchBytes: 2048,
  inFlightBatches: 4,
  deliveryTimeoutMs: 120_000,
  keys: 5,
  records: 0,
  burst: 5,
  meanGapMs: 2,
  largestValueBytes: 100,
  nullRate: 0,
  batched: false,
}

const CONSUMER: ConsumerPlan = {
  topic: ORDERS.name,
  from: 'earliest',
  untilEnd: false,
  consumption: 'plain',
  concurrency: 1,
  inFlightBytes: 1024 * 1024,
  meanWorkMs: 0,
  meanSessionMs: 1_000_000,
}

function optionsFor(topic: TopicOptions, brokers: number): SimulationOptions {
  const options = optionsOf(SEED, brokers)
  return {
    ...options,
    network: { ...options.network, minLatencyMs: 0.05, meanLatencyMs: 0.1, shredRate: 0.1 },
    clocks: options.clocks.map(() => ({ clockRate: 1, wallOffsetMs: 0 })),
    topics: [topic],
    producers: [],
    consumers: [],
    faults: { ...options.faults, ...NO_FAULTS },
    storage: { ...options.storage, slotBytes: [128 * 1024, 256 * 1024, 4 * 1024 * 1024], checkpointBytes: 16 * 1024 },
    triesLiveness: false,
    losesMetadata: false,
    probesBounds: true,
    rots: false,
    group: null,
  }
}

export class Stage {
  constructor(
    readonly run: RunContext,
    /** Everything that was said so far. */
    readonly lines: readonly string[],
  ) {}

  get nodes(): readonly BrokerNode[] {
    return this.run.cluster.nodes
  }

  replica(node: BrokerNode): ReplicaGroup | undefined {
    return [...(node.broker?.replicas() ?? [])].find(({ key }) => key.topicId === 1)
  }

  /** Whoever serves the partition, in the newest term. */
  get leader(): BrokerNode | undefined {
    const serving = this.nodes.filter((node) => this.replica(node)?.isServing === true)
    return serving.sort((a, b) => this.replica(b)!.term - this.replica(a)!.term)[0]
  }

  async untilLedByOther(than: BrokerNode): Promise<BrokerNode> {
    await this.run.until('another broker leads', () => this.leader !== undefined && this.leader !== than)
    return this.leader!
  }

  async untilLed(): Promise<{ leader: BrokerNode; followers: readonly BrokerNode[] }> {
    await this.run.until('somebody leads', () => this.leader !== undefined)
    const leader = this.leader!
    return { leader, followers: this.nodes.filter((node) => node !== leader) }
  }

  /** Every replica holds all of what is committed. */
  async untilEqual(): Promise<void> {
    const ends = (): number[] => this.nodes.map((node) => this.replica(node)?.log.flushedIndex ?? -1)
    await this.run.until(
      () => `all replicas hold the same: ${ends().join(', ')}`,
      () => new Set(ends()).size === 1 && ends()[0]! > 0,
    )
  }

  produce(client: SimulatedClient, records: number, plan: Partial<ProducerPlan> = {}): { isDone: () => boolean } {
    client.produce({ ...PRODUCER, ...plan }, records)
    const app = client.producers.at(-1)!
    return { isDone: () => app.finished }
  }

  async send(client: SimulatedClient, records: number, plan: Partial<ProducerPlan> = {}): Promise<void> {
    const { isDone } = this.produce(client, records, plan)
    await this.run.until('everything sent is settled', isDone)
  }

  /** A client whose first records are settled. */
  async clientThatSent(records: number): Promise<SimulatedClient> {
    const client = this.run.population.newClient()
    await this.send(client, records)
    return client
  }

  consume(client: SimulatedClient): () => number {
    client.consume(CONSUMER)
    const app = client.consumers.at(-1)!
    return () => app.current?.reads.length ?? 0
  }

  /** Brokers and clients on one side hear nothing of those on the other, nor are they heard. */
  separate(here: readonly string[], there: readonly string[]): void {
    for (const one of here) {
      for (const other of there) {
        this.run.cluster.network.cut(one, other)
        this.run.cluster.network.cut(other, one)
      }
    }
  }

  heal(): void {
    this.run.cluster.network.heal()
  }

  cutPower(node: BrokerNode): void {
    this.run.recorder.diskLosses.push({ atMs: this.run.scheduler.nowMs, node: node.nodeId })
    node.cutPower(TEAR)
  }

  pass(ms: number): Promise<void> {
    return this.run.scheduler.sleep(ms)
  }
}

export const host = (node: BrokerNode): string => node.host

/** Plays a history to its end, then asks everything that is asked at the end of a run. Nothing may be wrong. */
export async function play(
  topic: TopicOptions,
  history: (stage: Stage) => Promise<void>,
  brokers = 3,
): Promise<SimulationResult> {
  const lines: string[] = []
  const output = { onLog: (line: string) => void lines.push(line), onTrace: null }
  let cameToEnd = false
  const result = await runSimulation(optionsFor(topic, brokers), output, async (run) => {
    await history(new Stage(run, lines))
    cameToEnd = true
  })
  expect(result.failures, lines.slice(-20).join('\n')).toEqual([])
  expect(cameToEnd).toBe(true)
  return result
}
