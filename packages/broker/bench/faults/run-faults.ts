// One run: a cluster of processes under load, faults and operations for so long, most voters of the metadata away for a while,
// then peace, a final read, a look at every disk, and the verdict.
import { setTimeout as sleep } from 'node:timers/promises'
import { checkHistory } from '../../sim/checker/check-history.js'
import { SeededRandom } from '../../sim/random.js'
import { Recorder } from '../../sim/recorder.js'
import type { Preference } from '../support/broker-under-test.js'
import { ProcessCluster } from '../support/process-cluster.js'
import { round } from '../support/session.js'
import { type FaultKind, FaultSchedule } from './fault-schedule.js'
import { type FaultTopic, FaultWorkload } from './fault-workload.js'
import { type CutOffResult, cutOffMetadata } from './metadata-cut-off.js'
import { type OperationKind, Operators, REPLICAS } from './operators.js'
import { Patience } from './patience.js'
import { untilPlaced } from './placement.js'
import { readReplicaLogs } from './replica-logs.js'
import { type ChurnKind, TopicChurn } from './topic-churn.js'
import { Turns } from './turns.js'

/** What a run is made of: both unless only one is wanted. */
export type Phase = 'schedule' | 'cut-off'

export interface FaultRunOptions {
  readonly brokers: number
  readonly seconds: number
  readonly seed: number
  readonly prefer: Preference
  readonly phases: readonly Phase[]
  /** Told of each fault and operation as it begins. */
  readonly onFault: (words: string) => void
}

export interface FaultRunResult {
  readonly ok: boolean
  readonly brokers: number
  readonly seed: number
  readonly seconds: number
  readonly faults: Partial<Record<FaultKind, number>>
  readonly operations: Partial<Record<OperationKind, number>>
  /** Brokers that were removed and started again: they end by themselves where they had heard of it. */
  readonly refusedAtStart: number
  /** Of the topic that comes and goes. */
  readonly churn: Partial<Record<ChurnKind, number>>
  /** Null where most voters cannot be away while two brokers run on. */
  readonly cutOff: CutOffResult | null
  readonly sends: number
  readonly acknowledged: number
  readonly unknown: number
  readonly failed: number
  readonly reads: number
  /** Longest time without any acknowledgement, of all producers together, before the metadata was cut off. */
  readonly longestStallMs: number
  /** From the end of the faults until every replica was where it should be. */
  readonly settledMs: number
  /** Replicas whose logs were compared. */
  readonly replicas: number
  /** Acknowledged records that are not there. */
  readonly lost: number
  /** Records that are there more than once. */
  readonly duplicated: number
  /** Everything else that must not be. */
  readonly anomalies: number
  readonly violations: readonly string[]
  /** Where data and logs are, when there is something to look at. */
  readonly kept: string | null
}

/** With so many brokers most voters can be away, and two brokers run on. */
const CUT_OFF_BROKERS = 5
const CUT_OFF_SHARE = 0.25
const MOST_CUT_OFF_SECONDS = 24
/** What a run keeps of its time for bringing everything to rest and looking at it. */
const ENDING_SHARE = 0.2
const MOST_ENDING_SECONDS = 15
/** However long the cluster takes to begin. */
const LEAST_SCHEDULE_SHARE = 0.5
/** In runs that last, replicas that have moved away are waited for until they are gone. */
const LONG_RUN_SECONDS = 120
const MOVED_REPLICA_MS = 40_000

export async function runFaults(options: FaultRunOptions): Promise<FaultRunResult> {
  const beganMs = performance.now()
  const { brokers, seed, prefer } = options
  const cluster = await ProcessCluster.start({ brokers, prefer, hasProxies: true, hasSmallDisk: true, memory: '96m' })
  const run = new FaultRun(options, cluster, beganMs)
  let broken: string | null = null
  try {
    await run.perform()
  } catch (error) {
    broken = error instanceof Error ? (error.stack ?? error.message) : String(error)
  }
  const problems = [...run.problems, ...crashesOf(cluster), ...(broken === null ? [] : [broken])]
  const violations = broken === null ? run.check() : []
  const ok = problems.length === 0 && violations.length === 0
  await run.close()
  await cluster.stop({ keepsFiles: !ok })
  const count = (invariant: string) => violations.filter((violation) => violation.invariant === invariant).length
  const lost = count('lost-write')
  const duplicated = count('duplicate')
  return {
    ok,
    brokers,
    seed,
    seconds: round((performance.now() - beganMs) / 1000, 1),
    ...run.figures,
    lost,
    duplicated,
    anomalies: violations.length - lost - duplicated + problems.length,
    violations: [...violations.map(({ invariant, message }) => `${invariant}: ${message}`), ...problems],
    kept: ok ? null : cluster.directory,
  }
}

function crashesOf({ nodes }: ProcessCluster): string[] {
  return nodes.flatMap(({ nodeId, crash }) => (crash === null ? [] : [`node ${nodeId} ended by itself with ${crash}`]))
}

class FaultRun {
  readonly problems: string[] = []
  private readonly recorder = new Recorder(() => performance.now())
  private readonly random: SeededRandom
  private readonly workload: FaultWorkload
  private readonly schedule: FaultSchedule
  private readonly patience = new Patience()
  private operators: Operators | null = null
  private churn: TopicChurn | null = null
  private cutOff: CutOffResult | null = null
  private topics: readonly FaultTopic[] = []
  private settledMs = 0
  private longestStallMs = 0

  constructor(
    private readonly options: FaultRunOptions,
    private readonly cluster: ProcessCluster,
    private readonly beganMs: number,
  ) {
    const { seed, brokers, onFault } = options
    this.random = new SeededRandom(`faults-${seed}-${brokers}`)
    this.workload = new FaultWorkload(() => cluster.bootstrap, this.random.split('workload'), this.recorder)
    const leader = (): Promise<number | null> => this.workload.leader()
    this.schedule = new FaultSchedule(cluster, this.random.split('faults'), leader, onFault)
  }

  async perform(): Promise<void> {
    const { seconds, phases, brokers } = this.options
    const hasCutOff = phases.includes('cut-off') && brokers >= CUT_OFF_BROKERS
    const isOnly = !phases.includes('schedule')
    const cutOffSeconds = hasCutOff ? Math.min(MOST_CUT_OFF_SECONDS, seconds * (isOnly ? 1 : CUT_OFF_SHARE)) : 0
    await this.workload.createTopics(this.replicas, this.patience)
    this.workload.begin()
    const endingSeconds = Math.min(MOST_ENDING_SECONDS, seconds * ENDING_SHARE)
    const deadlineMs = this.beganMs + (seconds - cutOffSeconds - endingSeconds) * 1000
    if (!isOnly) await this.hurt(Math.max(deadlineMs, performance.now() + seconds * LEAST_SCHEDULE_SHARE * 1000))
    this.patience.declarePeace()
    this.options.onFault('peace')
    const peaceAtMs = performance.now()
    await this.operators?.end()
    await this.churn?.end()
    this.options.onFault('what was begun is done')
    this.longestStallMs = this.workload.longestStallMs
    const made = hasCutOff ? await this.cutOffMetadata(cutOffSeconds) : []
    await this.workload.end()
    this.options.onFault('every send has its outcome')
    this.topics = await this.workload.readFinalLogs(made, this.replicas)
    this.options.onFault('everything is read')
    await this.examine()
    this.settledMs = performance.now() - peaceAtMs - cutOffSeconds * 1000
  }

  private get replicas(): number {
    return Math.min(REPLICAS, this.options.brokers)
  }

  private async hurt(deadlineMs: number): Promise<void> {
    const { cluster, random, recorder, patience, workload } = this
    const { onFault: onOperation, brokers } = this.options
    const common = { random: random.split('operations'), patience, beginnings: new Turns(), onOperation }
    if (brokers >= REPLICAS) {
      this.operators = new Operators({ ...common, cluster, mill: workload.newMill() })
      this.operators.begin()
    }
    const mills = [workload.newMill(), workload.newMill()]
    this.churn = new TopicChurn({ ...common, random: random.split('churn'), replicas: this.replicas, mills, recorder })
    this.churn.begin()
    await this.schedule.run(deadlineMs)
  }

  private async cutOffMetadata(seconds: number): Promise<readonly FaultTopic[]> {
    const { cluster, recorder, patience, workload } = this
    while (cluster.nodes.length < CUT_OFF_BROKERS) await cluster.join()
    const mill = workload.newMill()
    await untilPlaced({ mill, cluster, removed: this.removed, topics: [], patience })
    const random = this.random.split('cut-off')
    const onOperation = this.options.onFault
    const { result, problems, topics } = await cutOffMetadata({ cluster, mill, random, recorder, seconds, onOperation })
    this.cutOff = result
    this.problems.push(...problems)
    return topics
  }

  private get removed(): readonly number[] {
    return this.operators?.removed ?? []
  }

  /** Everything is where the metadata says, in memory and on disk. */
  private async examine(): Promise<void> {
    const { cluster, workload, topics, patience } = this
    const placement = { mill: workload.newMill(), cluster, removed: this.removed, topics, patience }
    await untilPlaced(placement)
    const isLong = this.options.seconds >= LONG_RUN_SECONDS
    if (isLong) await sleep(MOVED_REPLICA_MS)
    const placed = await untilPlaced(placement)
    this.options.onFault('every replica is in its place')
    await cluster.stopBrokers()
    const { logs, problems } = await readReplicaLogs(cluster.nodes, placed, !isLong)
    this.recorder.replicaLogs.push(...logs)
    this.problems.push(...problems)
  }

  check(): ReturnType<typeof checkHistory> {
    // No power is cut and no flush fails here, and one disk at a time is lost: what a majority has acknowledged stays.
    return checkHistory(this.recorder.history([...this.topics, ...(this.churn?.topics ?? [])].map(named)))
  }

  get figures() {
    const { recorder, schedule, operators, churn, cutOff, settledMs, longestStallMs } = this
    return {
      faults: schedule.counts,
      operations: operators?.counts ?? {},
      refusedAtStart: operators?.refusedAtStart ?? 0,
      churn: churn?.counts ?? {},
      cutOff,
      sends: recorder.sendCount,
      acknowledged: recorder.countOf('acknowledged'),
      unknown: recorder.countOf('unknown'),
      failed: recorder.countOf('failed'),
      reads: recorder.readCount,
      longestStallMs: Math.round(longestStallMs),
      settledMs: Math.round(settledMs),
      replicas: recorder.replicaLogs.length,
    }
  }

  close(): Promise<void> {
    return this.workload.close()
  }
}

const named = (topic: FaultTopic) => ({ ...topic, name: topic.label })
