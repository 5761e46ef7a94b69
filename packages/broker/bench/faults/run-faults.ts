// One run: a cluster of processes under load, faults for so long, then peace, a final read, and the verdict.

import { checkHistory } from '../../sim/checker/check-history.js'
import type { Violation } from '../../sim/checker/history.js'
import { SeededRandom } from '../../sim/random.js'
import { Recorder } from '../../sim/recorder.js'
import type { Preference } from '../support/broker-under-test.js'
import { ProcessCluster } from '../support/process-cluster.js'
import { round } from '../support/session.js'
import { type FaultKind, FaultSchedule } from './fault-schedule.js'
import { FAULT_TOPICS, FaultWorkload } from './fault-workload.js'

export interface FaultRunOptions {
  readonly brokers: number
  readonly seconds: number
  readonly seed: number
  readonly prefer: Preference
  /** Told of each fault as it begins. */
  readonly onFault: (words: string) => void
}

export interface FaultRunResult {
  readonly ok: boolean
  readonly brokers: number
  readonly seed: number
  readonly seconds: number
  readonly faults: Partial<Record<FaultKind, number>>
  readonly sends: number
  readonly acknowledged: number
  readonly unknown: number
  readonly failed: number
  readonly reads: number
  /** Longest time without any acknowledgement, of all producers together. */
  readonly longestStallMs: number
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

export async function runFaults(options: FaultRunOptions): Promise<FaultRunResult> {
  const { brokers, seconds, seed, prefer, onFault } = options
  const beganMs = performance.now()
  const cluster = await ProcessCluster.start({
    brokers,
    prefer,
    hasProxies: brokers > 1,
    hasSmallDisk: true,
    memory: '96m',
  })
  const random = new SeededRandom(`faults-${seed}-${brokers}`)
  const recorder = new Recorder(() => performance.now())
  const workload = new FaultWorkload(cluster.bootstrap, random.split('workload'), recorder)
  const schedule = new FaultSchedule(cluster, random.split('faults'), () => workload.leader(), onFault)
  const violations: Violation[] = []
  let broken: string | null = null
  let ok = false
  try {
    await workload.createTopics()
    workload.begin()
    await schedule.run(beganMs + seconds * 1000)
    await workload.end()
    await workload.readFinalLogs()
    violations.push(...checkHistory(historyOf(recorder, brokers)))
  } catch (error) {
    broken = error instanceof Error ? (error.stack ?? error.message) : String(error)
  } finally {
    ok = violations.length === 0 && broken === null
    await workload.close()
    await cluster.stop({ keepsFiles: !ok })
  }
  const count = (invariant: string) => violations.filter((violation) => violation.invariant === invariant).length
  const lost = count('lost-write')
  const duplicated = count('duplicate')
  return {
    ok,
    brokers,
    seed,
    seconds: round((performance.now() - beganMs) / 1000, 1),
    faults: schedule.counts,
    sends: recorder.sendCount,
    acknowledged: recorder.countOf('acknowledged'),
    unknown: recorder.countOf('unknown'),
    failed: recorder.countOf('failed'),
    reads: recorder.readCount,
    longestStallMs: Math.round(workload.longestStallMs),
    lost,
    duplicated,
    anomalies: violations.length - lost - duplicated + (broken === null ? 0 : 1),
    violations: [
      ...violations.map(({ invariant, message }) => `${invariant}: ${message}`),
      ...(broken === null ? [] : [broken]),
    ],
    kept: ok ? null : cluster.directory,
  }
}

/** No power is cut and no flush fails here: nothing that was acknowledged by a majority may be gone. */
function historyOf(recorder: Recorder, brokers: number) {
  const history = recorder.history(FAULT_TOPICS)
  const replicas = Math.min(3, brokers)
  return { ...history, topics: history.topics.map((topic) => ({ ...topic, replicas })) }
}
