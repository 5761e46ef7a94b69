// What the parts of one run share.
import type { Coverage } from './coverage.js'
import type { SimulationOptions } from './options.js'
import type { Population } from './population.js'
import type { SeededRandom } from './random.js'
import type { Recorder } from './recorder.js'
import type { Scheduler } from './scheduler.js'
import type { SimulatedCluster } from './simulated-cluster.js'

/** Something that had to come about has not. */
export class Stuck extends Error {}

export interface RunContext {
  readonly options: SimulationOptions
  readonly scheduler: Scheduler
  readonly coverage: Coverage
  readonly recorder: Recorder
  readonly random: SeededRandom
  readonly cluster: SimulatedCluster
  readonly population: Population
  /** Whether faults and workload are over. */
  readonly isPeaceful: boolean
  readonly hasFailed: boolean
  /** @throws Stuck when it does not hold in time; `what` goes into its message. */
  until(what: string | (() => string), holds: () => boolean): Promise<void>
  fail(invariant: string, message: string): void
  /** A node is about to be removed by its operator. */
  expectRemoval(nodeId: number, isForced: boolean): void
  log(text: string, fields: object): void
}
