// The log of every replica at the end of a run, batch by batch, for the checker to compare.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, readBatchHeader, readLogPart } from '@millrace/protocol'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { LogRead } from '#src/storage/log-store.js'
import { isToHave } from './arrivals.js'
import type { BatchFact } from './checker/history.js'
import type { RunContext } from './run-context.js'

const READ_BYTES = 1024 * 1024

/** Every replica of a topic that holds on to the end. */
export async function readReplicaLogs(run: RunContext): Promise<void> {
  for (const { nodeId, broker } of run.cluster.nodes) {
    for (const replica of broker?.replicas() ?? []) {
      const topic = run.options.topics[replica.key.topicId - 1]
      // What has moved away is kept for a while, and says nothing any more.
      if (topic === undefined || !isToHave(run.cluster.nodes, nodeId, replica)) continue
      const { partition } = replica.key
      const batches = await batchesOf(replica)
      const { commitIndex: committedIndex } = replica.core
      run.recorder.replicaLogs.push({ topic: topic.name, partition, node: nodeId, committedIndex, batches })
    }
  }
}

async function batchesOf({ log }: ReplicaGroup): Promise<BatchFact[]> {
  const facts: BatchFact[] = []
  for (let index = log.start.index; index <= log.filled.index; ) {
    const read = await log.readFrom(index, READ_BYTES)
    try {
      if (read.batchCount === 0) break
      facts.push(...factsOf(wholeOf(read)))
      index = read.lastIndex + 1
    } finally {
      read.release()
    }
  }
  return facts
}

function wholeOf({ pieces, byteLength }: LogRead): Uint8Array {
  const whole = new Uint8Array(byteLength)
  let at = 0
  for (const { block, offset, length } of pieces) {
    whole.set(block.bytes.subarray(offset, offset + length), at)
    at += length
  }
  return whole
}

function factsOf(bytes: Uint8Array): BatchFact[] {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const facts: BatchFact[] = []
  for (let at = 0; at < bytes.byteLength; ) {
    const { baseOffset, index, term, clientLength } = readLogPart(view, at)
    const { recordCount, control } = readBatchHeader(view, at + LOG_PART_BYTES)
    const end = at + LOG_PART_BYTES + clientLength
    const digest = crc32(bytes.subarray(at, end)).toString(16)
    facts.push({ index, term, offset: baseOffset, records: control ? 0 : recordCount, digest })
    at = end
  }
  return facts
}
