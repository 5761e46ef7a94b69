// Not safety but progress: a majority is made whole, whatever is broken elsewhere stays broken, and then everything that
// is sent has to be acknowledged and read within a bound. Healing everything would hide a minority that disturbs for ever.
import type { BrokerNode } from './broker-node.js'
import type { Faults } from './faults.js'
import { OUTSIDER_STATES, type OutsiderState } from './outsiders.js'
import { shuffled } from './partitions.js'
import type { SeededRandom } from './random.js'
import { type RunContext, Stuck } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'
import { stackOf } from './simulation-result.js'

/** Virtual time within which every partition of a majority acknowledges and shows a record. */
const BOUND_MS = 30_000

export class LivenessTrial {
  private readonly random: SeededRandom

  constructor(
    private readonly run: RunContext,
    private readonly faults: Faults,
  ) {
    this.random = run.random.split('liveness')
  }

  /** Ends with everything in the state it was tried in; healing is left to the caller. */
  async suffer(): Promise<void> {
    const { cluster, coverage } = this.run
    const { nodes, network } = cluster
    this.faults.stop()
    network.heal()
    // It comes before the others are broken, so that they can be cut off from it too.
    const client = this.run.population.newClient()
    const order = shuffled(nodes, this.random)
    const core = order.slice(0, Math.floor(nodes.length / 2) + 1)
    for (const node of core) this.faults.repair(node)
    for (const node of order.slice(core.length)) {
      const state = this.drawState(node)
      coverage.count(`outsider: ${state}`)
      this.run.log(`broker ${node.nodeId} stays ${state}`, {})
      this.breakForGood(node, state)
    }
    await this.demandProgress(client, core)
  }

  /** Only a disk that others know can be missed. */
  private drawState(node: BrokerNode): OutsiderState {
    const state = this.random.pick(OUTSIDER_STATES)
    return state === 'wiped' && node.broker?.status().isRegistered !== true ? 'off' : state
  }

  private breakForGood(node: BrokerNode, state: OutsiderState): void {
    const { cluster, population, scheduler } = this.run
    const { network } = cluster
    if (state === 'off') {
      node.stayOff()
      node.kill()
      return
    }
    if (state === 'wiped') node.wipeDisk()
    node.start()
    const own = node.host
    const brokers = cluster.hosts.filter((host) => host !== own)
    const all = [...brokers, ...population.names]
    const deafTo = { 'cut off': all, deaf: all, 'deaf to brokers': brokers } as Partial<Record<OutsiderState, string[]>>
    const muteTo = { 'cut off': all, mute: all, 'mute to brokers': brokers } as Partial<Record<OutsiderState, string[]>>
    for (const other of deafTo[state] ?? []) network.cut(other, own)
    for (const other of muteTo[state] ?? []) network.cut(own, other)
    if (state === 'slow disk') node.machine.diskConditions.slowness = 300
    const { environment } = node.machine
    if (state === 'paused' && environment !== null) {
      scheduler.stall(environment.process, 10 * BOUND_MS)
    }
  }

  /** A client without a past, and its records in every partition. */
  private async demandProgress(client: SimulatedClient, core: readonly BrokerNode[]): Promise<void> {
    const { run } = this
    // Who has lost what it had not flushed may need every voter before it counts for one again.
    const isWhole = !run.recorder.diskLosses.some(({ node }) => core.some(({ nodeId }) => nodeId === node))
    const topics = run.options.topics.filter(({ durability }) => durability === 'flushed' || isWhole)
    const deadlineMs = run.scheduler.nowMs + BOUND_MS
    const due = topics.flatMap(({ name, partitions }) =>
      Array.from({ length: partitions }, (_, partition) => ({ name, partition, acknowledged: false })),
    )
    for (const partition of due) this.sendUntilAcknowledged(client, partition)
    await this.within(deadlineMs, () => {
      const open = due.filter(({ name, partition, acknowledged }) => {
        return !acknowledged && this.hasQuorum(name, partition, core) && !this.needsEveryVoter(name, partition, core)
      })
      return open.map(({ name, partition }) => `${name}/${partition} acknowledges a record`)
    })
    const whole = topics.filter(({ name }) => due.every((one) => one.name !== name || one.acknowledged))
    let unread = whole.map(({ name }) => name)
    for (const name of unread) {
      const done = () => {
        unread = unread.filter((other) => other !== name)
      }
      const records = client.mill.consumer().subscribe(name, { from: 'earliest', until: 'end' })
      records.subscribe({
        error: (error: unknown) => run.fail('unreadable', `reading ${name} of a majority failed: ${stackOf(error)}`),
        complete: done,
      })
    }
    await this.within(deadlineMs, () => unread.map((name) => `${name} is read to its end`))
    run.coverage.count('a majority made progress')
  }

  /** A replica that could not read all it had acknowledged elects nobody unless every voter agrees, broken ones too. */
  private needsEveryVoter(name: string, partition: number, core: readonly BrokerNode[]): boolean {
    const topicId = this.topicIdOf(name)
    let repairing = false
    for (const { broker } of core) {
      for (const { key, core: raft, isServing } of broker?.replicas() ?? []) {
        if (key.topicId !== topicId || key.partition !== partition) continue
        if (isServing) return false
        if (raft.isRepairing) repairing = true
      }
    }
    return repairing
  }

  /**
   * With more brokers than replicas a majority of the brokers need not be one of every partition. Asked again and again: who
   * belongs to a partition is seen once its replicas are open.
   */
  private hasQuorum(name: string, partition: number, core: readonly BrokerNode[]): boolean {
    const topicId = this.topicIdOf(name)
    for (const { broker } of this.run.cluster.nodes) {
      for (const { key, core: raft } of broker?.replicas() ?? []) {
        if (key.topicId !== topicId || key.partition !== partition) continue
        const { voters } = raft.configuration
        const there = core.filter(({ nodeId }) => voters.includes(nodeId)).length
        if (there * 2 <= voters.length) return false
      }
    }
    return true
  }

  private topicIdOf(name: string): number {
    return this.run.options.topics.findIndex((topic) => topic.name === name) + 1
  }

  private sendUntilAcknowledged(
    client: SimulatedClient,
    due: { readonly name: string; readonly partition: number; acknowledged: boolean },
  ): void {
    const { recorder, random } = { ...this.run, random: this.random }
    const producer = client.mill.producer(due.name, { deliveryTimeoutMs: BOUND_MS })
    const { recordId, record } = recorder.send(
      `${client.name}/${due.name}/${due.partition}`,
      due.name,
      'all',
      (id) => ({
        key: null,
        value: Buffer.from(`progress ${random.uint32()}`),
        headers: [id],
        timestamp: client.environment.wallMs(),
      }),
    )
    const { headers, timestamp } = record
    producer.send(null, record.value, { headers, timestamp, partition: due.partition }).then(
      ({ partition, offset }) => {
        due.acknowledged = true
        recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition, offset })
      },
      (error: { outcome?: 'failed' | 'unknown' }) => recorder.settled(recordId, error.outcome ?? 'unknown', null),
    )
  }

  /** @throws Stuck naming what has not come about. */
  private async within(deadlineMs: number, missing: () => readonly string[]): Promise<void> {
    const { run } = this
    while (missing().length > 0 && !run.hasFailed) {
      if (run.scheduler.nowMs > deadlineMs) {
        const message = `${BOUND_MS} ms after a majority was whole: never that ${missing().join(', ')}`
        run.fail('no-progress', message)
        throw new Stuck(message)
      }
      await run.scheduler.sleep(20)
    }
  }
}
