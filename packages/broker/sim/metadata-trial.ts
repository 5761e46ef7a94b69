// The metadata group loses its majority, and everybody else goes on: what was decided holds, partitions elect their leaders by
// themselves, and clients find them. When the others come back, the metadata can be changed again.
import { admin } from '@millrace/client/admin'
import { mustBeMillraceError } from './app-context.js'
import { waitForMoves } from './arrivals.js'
import type { BrokerNode } from './broker-node.js'
import type { Faults } from './faults.js'
import type { TopicOptions } from './options.js'
import { shuffled } from './partitions.js'
import type { SeededRandom } from './random.js'
import { type RunContext, Stuck } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { stackOf } from './simulation-result.js'

/** How long the metadata stays without a leader, while records flow. */
const SPAN_MS = 6_000
/** What is sent is acknowledged and read within this time, elections included. */
const BOUND_MS = 15_000
/** Once everybody is back. */
const METADATA_BOUND_MS = 30_000
const SEND_GAP_MS = 100
const RETRY_MS = 30

interface Flow {
  readonly name: string
  readonly partition: number
  sent: number
  acknowledged: number
}

export class MetadataTrial {
  private readonly random: SeededRandom

  constructor(
    private readonly run: RunContext,
    private readonly faults: Faults,
  ) {
    this.random = run.random.split('metadata')
  }

  /** All is whole in the end. */
  async suffer(): Promise<void> {
    const { cluster, coverage, options, population } = this.run
    // What a buffered topic may lose is reckoned by the replicas that it began with: it is not to move.
    const topics = options.topics.filter(({ durability }) => durability === 'flushed')
    if (topics.length === 0) return
    const client = population.newClient()
    this.makeWhole()
    const order = shuffled(cluster.nodes, this.random)
    const lost = order.slice(0, Math.floor(order.length / 2) + 1)
    await this.place(client, topics, order.slice(lost.length), lost)
    await this.run.until('no replica is under repair', () => this.isRepaired())
    for (const node of lost) this.lose(node, lost)
    await this.run.until('nobody leads the metadata', () => !this.hasMetadataLeader())
    coverage.count('metadata without a majority')
    // Whoever comes now has nobody but the brokers that are left to ask.
    await this.flow(this.random.chance(0.5) ? population.newClient() : client, topics)
    this.makeWhole()
    await this.changeMetadata(client)
    coverage.count('flowed without metadata')
  }

  private makeWhole(): void {
    this.faults.stop()
    this.run.cluster.network.heal()
    for (const node of this.run.cluster.nodes) this.faults.repair(node)
  }

  /** Each partition has a majority of its replicas among those that stay; any of them may be the one that is to lead. */
  private async place(
    client: SimulatedClient,
    topics: readonly TopicOptions[],
    staying: readonly BrokerNode[],
    lost: readonly BrokerNode[],
  ): Promise<void> {
    for (const { name, partitions } of topics) {
      for (let partition = 0; partition < partitions; partition++) {
        const replicas = shuffled([...staying, this.random.pick(lost)], this.random).map(({ nodeId }) => nodeId)
        await this.persist(() => admin(client.mill).movePartition(name, partition, replicas))
      }
    }
    await waitForMoves(this.run)
  }

  private lose(node: BrokerNode, lost: readonly BrokerNode[]): void {
    const { network, hosts } = this.run.cluster
    if (this.random.chance(0.5)) {
      node.kill()
      return
    }
    // They do not find each other either; clients may go on asking them.
    const others = this.random.chance(0.5) ? [...hosts, ...this.run.population.names] : hosts
    for (const other of others) {
      if (other === node.host) continue
      network.cut(node.host, other)
      network.cut(other, node.host)
    }
    this.run.log(`broker ${node.number} is cut off, one of ${lost.length}`, {})
  }

  private hasMetadataLeader(): boolean {
    return this.run.cluster.nodes.some(({ broker }) => broker?.metadata.leads === true)
  }

  private isRepaired(): boolean {
    return this.run.cluster.nodes.every(({ broker }) => {
      return broker !== null && [...broker.replicas()].every(({ core }) => !core.isRepairing)
    })
  }

  /** Records are sent to every partition, read, and none fails. */
  private async flow(client: SimulatedClient, topics: readonly TopicOptions[]): Promise<void> {
    const { run } = this
    const flows = topics.flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, partition): Flow => ({ name, partition, sent: 0, acknowledged: 0 })),
    )
    const endMs = run.scheduler.nowMs + SPAN_MS
    while (run.scheduler.nowMs < endMs && !run.hasFailed) {
      for (const flow of flows) this.send(client, flow)
      await run.scheduler.sleep(this.random.exponential(SEND_GAP_MS))
    }
    const deadlineMs = run.scheduler.nowMs + BOUND_MS
    await this.within(deadlineMs, () =>
      flows.flatMap(({ name, partition, sent, acknowledged }) =>
        acknowledged === sent ? [] : [`${name}/${partition} acknowledges ${sent} records, and not ${acknowledged}`],
      ),
    )
    const unread = new Set(topics.map(({ name }) => name))
    for (const name of [...unread]) {
      client.mill
        .consumer()
        .subscribe(name, { from: 'earliest', until: 'end' })
        .subscribe({
          error: (error: unknown) => run.fail('unreadable', `reading ${name} without metadata: ${stackOf(error)}`),
          complete: () => unread.delete(name),
        })
    }
    await this.within(deadlineMs, () => [...unread].map((name) => `${name} is read to its end`))
    if (this.hasMetadataLeader()) run.fail('no-progress', 'somebody leads the metadata without a majority')
  }

  private send(client: SimulatedClient, flow: Flow): void {
    const { run, random } = this
    const { name, partition } = flow
    const producer = client.mill.producer(name, { deliveryTimeoutMs: 2 * BOUND_MS })
    const sender = `${client.name}/${name}/${partition}/${flow.sent++}`
    const { recordId, record } = run.recorder.send(sender, name, 'all', (id) => ({
      key: null,
      value: Buffer.from(`without metadata ${random.uint32()}`),
      headers: [id],
      timestamp: client.environment.wallMs(),
    }))
    const { value, headers, timestamp } = record
    producer.send(null, value, { headers, timestamp, partition }).then(
      ({ partition: at, offset }) => {
        flow.acknowledged++
        run.recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition: at, offset })
      },
      (error: { outcome?: 'failed' | 'unknown' }) => {
        run.recorder.settled(recordId, error.outcome ?? 'unknown', null)
        run.fail('no-progress', `a send to ${name}/${partition} failed without metadata: ${String(error)}`)
      },
    )
  }

  /** A partition is moved back and forth: that needs the metadata. */
  private async changeMetadata(client: SimulatedClient): Promise<void> {
    let isChanged = false
    const { name } = this.run.options.topics[0]!
    void this.persist(() => admin(client.mill).alterTopic(name, { retentionMs: null })).then(() => {
      isChanged = true
    })
    const deadlineMs = this.run.scheduler.nowMs + METADATA_BOUND_MS
    await this.within(deadlineMs, () => (isChanged ? [] : ['the metadata is changed']))
  }

  private async persist(work: () => Promise<unknown>): Promise<void> {
    for (;;) {
      try {
        await work()
        return
      } catch (error) {
        mustBeMillraceError(error)
      }
      await this.run.scheduler.sleep(RETRY_MS)
    }
  }

  /** @throws Stuck naming what has not come about. */
  private async within(deadlineMs: number, missing: () => readonly string[]): Promise<void> {
    const { run } = this
    while (missing().length > 0 && !run.hasFailed) {
      if (run.scheduler.nowMs > deadlineMs) {
        const message = `in time: never that ${missing().join(', ')}`
        run.fail('no-progress', message)
        throw new Stuck(message)
      }
      await run.scheduler.sleep(20)
    }
  }
}
