// Counts how often a run came to states worth coming to: many seeds mean little if they all stay on the lawn.

import { OUTSIDER_STATES } from './outsiders.js'
import { PARTITION_KINDS } from './partitions.js'

export const RARE_STATES = [
  'broker started',
  'broker killed',
  'broker killed while starting',
  'power cut',
  'power cut while starting',
  'power cut with unflushed pages',
  'broker stopped in order',
  'connection lost',
  'connection went silent',
  'disk slow',
  'disk error',
  'disk full',
  'event loop stalled',
  'wall clock set',
  'client killed',
  'topic created',
  'topic deleted',
  'topic of an old name kept',
  'partitions added',
  'send failed',
  'send unknown',
  'acknowledged without offset',
  'buffer full',
  'session completed',
  'session failed',
  'session unsubscribed',
  'session resumed after a break',
  'tail of a buffered topic lost',
  'log start moved',
  'start refused',
  'rot found by the scrubber',
  'rot met by a reader',
  'rotten replica repaired by the others',
  'rotten replica begun anew',
  'rot in a replica that was left alone',
  'every broker struck at once',
  'path clogged',
  'leader changed',
  'leader asked to hand over',
  'leader handed over',
  'partition given other replicas',
  'partitions arrived',
  'topic given other replicas',
  'metadata without a majority',
  'flowed without metadata',
  'broker joined',
  'draining undone',
  'broker drained and removed',
  'removed broker came again',
  'disk lost for good',
  'dead broker replaced',
  'members settled',
  'nothing left over',
  'replica cut off a tail',
  'replica took over a state',
  'replica under repair',
  'bounds answered',
  'a majority made progress',
  'group: has committed everything',
  'group: member killed',
  'group: member cut off',
  'group: member rested',
  'group: member added',
  'group: member gone for good',
  'group: member replaced under its name',
  'group: member fenced on its return',
  'group: lease ran out',
  'group: lease ran out while a handler ran',
  'group: partition given back',
  'group: record given again',
  'group: coordinator changed',
  'group: coordinator changed during a commit',
  'group: coordinator killed during a commit',
  'group: coordinator asked to hand over during a commit',
  ...OUTSIDER_STATES.map((state) => `outsider: ${state}` as const),
  ...PARTITION_KINDS.map((kind) => `partition: ${kind}` as const),
] as const

export type RareState = (typeof RARE_STATES)[number]

export type CoverageCounts = Record<string, number>

export class Coverage {
  readonly counts: CoverageCounts = {}

  count(state: RareState): void {
    this.counts[state] = (this.counts[state] ?? 0) + 1
  }
}

export function addCoverage(sum: CoverageCounts, counts: CoverageCounts): void {
  for (const [state, count] of Object.entries(counts)) sum[state] = (sum[state] ?? 0) + count
}
