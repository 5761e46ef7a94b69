// One run: a cluster, its clients and what befalls them, then peace, then the questions.
import { setAmbientTraps } from './ambient-traps.js'
import { waitForMoves } from './arrivals.js'
import { BoundsProbe } from './bounds-probe.js'
import { checkHistory } from './checker/check-history.js'
import type { History } from './checker/history.js'
import { CHURN_TOPIC, churn, type Incarnation } from './churn.js'
import { Coverage } from './coverage.js'
import {
  askLastStarts,
  closeClients,
  readFinalLog,
  readFinalLogs,
  stopBroker,
  waitForConsumers,
  waitForQuiet,
  waitForSends,
} from './ending.js'
import { Faults, type Moment } from './faults.js'
import { GroupWorkload } from './group-workload.js'
import { LivenessTrial } from './liveness-trial.js'
import { BROKEN_MEMBERS, MemberWatch } from './member-watch.js'
import { MemberOperator } from './members.js'
import { waitForMembers } from './members-settled.js'
import { MetadataTrial } from './metadata-trial.js'
import type { SimulationOptions, TopicOptions } from './options.js'
import { Partitions } from './partitions.js'
import { Population } from './population.js'
import { SeededRandom } from './random.js'
import { Recorder } from './recorder.js'
import { readReplicaLogs } from './replica-logs.js'
import { BROKEN_REPLICAS, ReplicaWatch } from './replica-watch.js'
import { RotTrial } from './rot-trial.js'
import { type RunContext, Stuck } from './run-context.js'
import { Scheduler } from './scheduler.js'
import { SimulatedCluster } from './simulated-cluster.js'
import {
  describe,
  type Failure,
  QUIET,
  type SimulationOutput,
  type SimulationResult,
  stackOf,
} from './simulation-result.js'
import { createTopic } from './topic-admin.js'

const MOST_EVENTS = 3_000_000
/** What a topic has when there are brokers enough, unless told otherwise. */
const MOST_REPLICAS = 3
/** A broker that is cut off or paused hears late that a topic is gone, and serves it until then. */
const DELETION_SPREAD_MS = 10_000
/** Replicas are looked at once in so many events. */
const EVENTS_PER_LOOK = 10
/** Virtual time within which everything must come to an end once nothing is broken any more. */
const PEACE_MS = 90_000
/** The first of these ends a run: what follows it means nothing. */
const FATAL: ReadonlySet<string> = new Set([
  'exception',
  'memory',
  'no-progress',
  ...BROKEN_REPLICAS,
  ...BROKEN_MEMBERS,
])

/** What happens between the beginning and the end of a run that leaves nothing to chance. */
export type Script = (run: RunContext) => Promise<void>

/** @param script takes the place of workload, faults and the trial of liveness. */
export async function runSimulation(
  options: SimulationOptions,
  output: SimulationOutput = QUIET,
  script: Script | null = null,
): Promise<SimulationResult> {
  const simulation = new Simulation(options, output, script)
  const takeOffTraps = setAmbientTraps()
  const onRejection = (error: unknown) => simulation.fail('exception', `unhandled rejection: ${stackOf(error)}`)
  process.on('unhandledRejection', onRejection)
  try {
    return await simulation.run()
  } finally {
    process.off('unhandledRejection', onRejection)
    takeOffTraps()
  }
}

class Simulation implements RunContext {
  readonly scheduler = new Scheduler()
  readonly coverage = new Coverage()
  readonly recorder: Recorder
  readonly random: SeededRandom
  readonly cluster: SimulatedCluster
  readonly population: Population
  isPeaceful = false
  private readonly rot: RotTrial
  private readonly faults: Faults
  private readonly probe: BoundsProbe
  private readonly failures: Failure[] = []
  /** For the report of a run that does not end. */
  private doing = 'it began'
  private hasRead = false
  private churning: Promise<Incarnation | null> | null = null
  private operating: Promise<void> | null = null
  private readonly members: MemberWatch
  private group: GroupWorkload | null = null

  constructor(
    readonly options: SimulationOptions,
    private readonly output: SimulationOutput,
    private readonly script: Script | null,
  ) {
    const { scheduler, coverage } = this
    this.random = new SeededRandom(`run/${options.seed}`)
    this.recorder = new Recorder(() => scheduler.nowMs)
    if (output.onTrace !== null) {
      const { onTrace } = output
      scheduler.trace.onNote = (label, values) => onTrace(`${scheduler.eventsRun} ${label} ${values.join(' ')}`)
    }
    const { random, recorder } = this
    const fail = (invariant: string, message: string) => this.fail(invariant, message)
    this.cluster = new SimulatedCluster({
      ...{ options, scheduler, coverage, recorder, random, fail },
      onDamage: (fields) => this.rot.damageReported(fields),
      onRepair: (fields) => this.rot.repairBegun(fields),
      onMoment: (moment: Moment) => this.faults.notice(moment),
      log: (text, fields) => this.log(text, fields),
    })
    const { network } = this.cluster
    const watch = new ReplicaWatch({ nodes: this.cluster.nodes, topics: options.topics, recorder, coverage, fail })
    this.members = new MemberWatch({ nodes: this.cluster.nodes, fail })
    scheduler.onEvent = () => {
      if (scheduler.eventsRun % EVENTS_PER_LOOK !== 0 || this.hasFailed) return
      watch.look()
      this.members.look()
      this.group?.look()
    }
    const bootstrap = () => this.cluster.nodes.map(({ address }) => address)
    this.population = new Population({ scheduler, network, recorder, coverage, random, bootstrap, fail })
    this.probe = new BoundsProbe({
      ...{ scheduler, network, coverage, hosts: this.cluster.hosts, topics: options.topics },
      random: random.split('probe'),
      answered: (bounds) => recorder.bounds.push(bounds),
    })
    const partitions = new Partitions(
      network,
      () => this.cluster.hosts,
      () => this.population.names,
    )
    this.rot = new RotTrial(this)
    this.faults = new Faults(
      {
        scheduler,
        network,
        nodes: this.cluster.nodes,
        partitions,
        coverage,
        topics: options.topics,
        onPowerCut: (node) => recorder.diskLosses.push({ atMs: scheduler.nowMs, node }),
        killSomeClient: (chance) => this.population.killSome(chance),
      },
      options.faults,
      random.split('faults'),
    )
  }

  async run(): Promise<SimulationResult> {
    let over = false
    const scenario = this.scenario().then(
      () => {
        over = true
      },
      (error: unknown) => {
        over = true
        if (error instanceof Stuck) this.fail('stuck', error.message)
        else this.fail('exception', stackOf(error))
      },
    )
    try {
      const limits = { deadlineMs: this.options.workMs + 6 * PEACE_MS, events: MOST_EVENTS }
      const end = await this.scheduler.run(() => over || this.hasCrashed, limits)
      if (end === 'done' && over) await scenario
      else if (!this.hasCrashed) {
        const atMs = this.scheduler.nowMs.toFixed(0)
        this.fail('stuck', `the run came to its ${end} limit at ${atMs} ms while ${this.doing}`)
      }
    } catch (error) {
      this.fail('exception', stackOf(error))
    }
    // Without its end a history says nothing: what nobody has read would count as lost.
    if (this.hasRead && !this.hasCrashed) this.failures.push(...checkHistory(this.history()))
    return this.result()
  }

  get hasFailed(): boolean {
    return this.failures.length > 0
  }

  private get hasCrashed(): boolean {
    return this.failures.some(({ invariant }) => FATAL.has(invariant))
  }

  fail(invariant: string, message: string): void {
    this.failures.push({ invariant, message })
    this.log(`FAILED ${invariant}: ${message}`, {})
  }

  expectRemoval(nodeId: number, isForced: boolean): void {
    this.members.expectRemoval(nodeId, isForced)
  }

  log(text: string, fields: object): void {
    this.output.onLog?.(`${this.scheduler.nowMs.toFixed(3)} ${text} ${describe(fields)}`)
  }

  private async scenario(): Promise<void> {
    const { options, population, cluster } = this
    for (const node of cluster.nodes) node.start()
    const operator = population.newClient()
    for (const topic of options.topics) await createTopic(population.adminOf(operator), topic)
    cluster.watchLimits()
    if (options.probesBounds) this.probe.begin()
    if (this.script === null) await this.liveThroughFaults()
    else await this.script(this)
    this.isPeaceful = true
    this.faults.heal()
    this.doing = 'the churning topic was to be deleted for the last time'
    const kept = await this.churning
    this.doing = 'the operator was to finish'
    await this.operating
    if (options.faults.moveMs !== null || options.faults.memberMs !== null) await waitForMoves(this)
    if (options.faults.memberMs !== null) await waitForMembers(this)
    await waitForSends(this)
    this.probe.stop()
    await waitForQuiet(this)
    await readFinalLogs(this, this.rot)
    if (kept !== null) await readFinalLog(this, { ...kept, name: CHURN_TOPIC }, kept.name)
    await readReplicaLogs(this)
    this.hasRead = true
    if (this.recorder.lostTail(options.topics)) this.coverage.count('tail of a buffered topic lost')
    await waitForConsumers(this)
    if (this.group !== null) await this.endGroup(this.group)
    await askLastStarts(this)
    await closeClients(this)
    if (options.rots) await this.rot.suffer()
    for (const node of cluster.nodes) await stopBroker(this, node)
  }

  private async liveThroughFaults(): Promise<void> {
    const { options, population, faults } = this
    faults.begin()
    for (const [i, plan] of options.producers.entries()) population.workerAt(i).produce(plan, plan.records)
    for (const [i, plan] of options.consumers.entries()) population.workerAt(i).consume(plan)
    if (options.faults.topicChurnMs !== null) this.churning = churn(this, options.faults.topicChurnMs)
    if (options.faults.memberMs !== null) this.operating = new MemberOperator(this).work(options.faults.memberMs)
    if (options.group !== null) this.group = new GroupWorkload(this, options.group)
    this.group?.begin()
    await this.scheduler.sleep(options.workMs)
    this.isPeaceful = true
    if (options.losesMetadata) await new MetadataTrial(this, faults).suffer()
    if (options.triesLiveness) await new LivenessTrial(this, faults).suffer()
  }

  /** The group is given what the final read has found. */
  private endGroup(group: GroupWorkload): Promise<void> {
    const ends = this.recorder.finalEnds().get(group.topic)
    return group.end(ends ?? [])
  }

  async until(what: string | (() => string), holds: () => boolean): Promise<void> {
    this.doing = `waiting until ${typeof what === 'string' ? what : what()}`
    const deadlineMs = this.scheduler.nowMs + (this.isPeaceful ? PEACE_MS : this.options.workMs + PEACE_MS)
    while (!holds()) {
      if (this.scheduler.nowMs > deadlineMs) throw new Stuck(`never: ${typeof what === 'string' ? what : what()}`)
      await this.scheduler.sleep(5)
    }
  }

  private history(): History {
    const { brokers, faults } = this.options
    // What began with one replica gets more.
    const replicas = Math.min(MOST_REPLICAS, faults.memberMs === null ? brokers : MOST_REPLICAS)
    const topics = this.allTopics.map((topic) => ({ ...topic, replicas }))
    return this.recorder.history(topics, replicas === 1 ? 0 : DELETION_SPREAD_MS)
  }

  private get allTopics(): readonly TopicOptions[] {
    const lives = this.recorder.incarnations.map(
      ({ name, partitions }): TopicOptions => ({ name, partitions, durability: 'flushed' }),
    )
    return [...this.options.topics, ...lives]
  }

  private result(): SimulationResult {
    const { recorder, scheduler } = this
    return {
      seed: this.options.seed,
      failures: this.failures,
      traceHash: scheduler.trace.digest(),
      events: scheduler.eventsRun,
      virtualMs: scheduler.nowMs,
      records: {
        sent: recorder.sendCount,
        acknowledged: recorder.countOf('acknowledged'),
        failed: recorder.countOf('failed'),
        unknown: recorder.countOf('unknown'),
        read: recorder.readCount,
      },
      coverage: this.coverage.counts,
    }
  }
}
