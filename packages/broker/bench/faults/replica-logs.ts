// What is on the disks of brokers that have ended, read by `millrace-broker log inspect`: the log of every replica for the
// checker to compare, damage, and whatever is not where it should be.
import { execFile } from 'node:child_process'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import type { BatchRow, VolumeReport } from '#src/inspect/reports.js'
import type { BatchFact, ReplicaLog } from '../../sim/checker/history.js'
import type { ClusterNode } from '../support/process-cluster.js'
import type { PlacedPartition } from './placement.js'

const PROGRAM = fileURLToPath(new URL('../../../bin/millrace-broker.js', import.meta.url))
const MOST_OUTPUT_BYTES = 512 * 1024 * 1024
const METADATA_TOPIC_ID = 0

export interface DiskVerdict {
  readonly logs: readonly ReplicaLog[]
  readonly problems: readonly string[]
}

/** @param mayKeepMoved whether replicas that have moved away may be there still: they go after a while. */
export async function readReplicaLogs(
  nodes: readonly ClusterNode[],
  placed: readonly PlacedPartition[],
  mayKeepMoved: boolean,
): Promise<DiskVerdict> {
  const logs: ReplicaLog[] = []
  const problems: string[] = []
  const reports = await Promise.all(nodes.map(({ dataDirectory }) => inspect(dataDirectory)))
  for (const [at, { nodeId }] of nodes.entries()) {
    const report = reports[at]!
    for (const { severity, where, problem } of report.problems) {
      if (severity === 'damage') problems.push(`node ${nodeId}: ${where}: ${problem}`)
    }
    const due = placed.filter((place) => place.nodes.includes(nodeId))
    for (const log of report.logs) {
      const place = placed.find(({ topicId, partition }) => topicId === log.topicId && partition === log.partition)
      const name = `node ${nodeId}: the log of ${place?.label ?? log.topic ?? log.topicId}/${log.partition}`
      if (log.state === 'damaged') problems.push(`${name} is damaged: ${log.end.reason}`)
      if (log.topicId === METADATA_TOPIC_ID) continue
      if (place === undefined || !due.includes(place)) {
        if (place === undefined) problems.push(`${name} is of no topic that there is`)
        else if (!mayKeepMoved) problems.push(`${name} has moved away and is still there`)
        continue
      }
      const { label: topic, partition, lastIndex: committedIndex } = place
      const batches = withoutCut(log.batchRows ?? []).map(factOf)
      logs.push({ topic, partition, node: nodeId, committedIndex, batches })
      const last = batches.at(-1)?.index ?? 0
      if (last < committedIndex) problems.push(`${name} ends at ${last}, and ${committedIndex} was committed`)
    }
    for (const place of due) {
      if (report.logs.some((log) => log.topicId === place.topicId && log.partition === place.partition)) continue
      problems.push(`node ${nodeId} is to have ${place.label}/${place.partition} and has nothing of it`)
    }
  }
  return { logs, problems }
}

async function inspect(directory: string): Promise<VolumeReport> {
  const args = [PROGRAM, 'log', 'inspect', directory, '--batches', '--limit=1000000', '--json']
  const { stdout } = await promisify(execFile)(process.execPath, args, { maxBuffer: MOST_OUTPUT_BYTES })
  return JSON.parse(stdout.trimEnd().split('\n').at(-1)!) as VolumeReport
}

/** What was cut off is still on disk, in front of what has taken its place. */
function withoutCut(rows: readonly BatchRow[]): readonly BatchRow[] {
  const kept: BatchRow[] = []
  for (const row of rows) {
    while ((kept.at(-1)?.index ?? -1) >= row.index) kept.pop()
    kept.push(row)
  }
  return kept
}

/** Checksums were compared by who read it: what is told of a batch says which one it is. */
function factOf({ position: _, ...batch }: BatchRow): BatchFact {
  const { index, term, baseOffset: offset, records, control } = batch
  return { index, term, offset, records: control ? 0 : records, digest: Object.values(batch).join(' ') }
}
