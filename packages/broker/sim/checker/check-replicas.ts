// What must hold of the logs of all replicas: the committed part is one log, and whoever reads it gets whole batches.
import type { BatchFact, ReplicaLog, Violation } from './history.js'
import { nameOf } from './promises.js'
import type { RecordIndex } from './record-index.js'

/** Indexes and offsets follow each other without a hole, and terms do not go back. */
export function* checkReplicaOrder({ history }: RecordIndex): Iterable<Violation> {
  for (const log of history.replicaLogs ?? []) {
    for (const [i, batch] of log.batches.entries()) {
      const before = log.batches[i - 1]
      if (before === undefined) continue
      const where = `${logName(log)}: index ${batch.index}`
      if (batch.index !== before.index + 1) {
        yield { invariant: 'offset-gap', message: `${where} where ${before.index + 1} is due` }
      } else if (batch.offset !== before.offset + before.records) {
        const due = before.offset + before.records
        yield { invariant: 'offset-gap', message: `${where} has the offset ${batch.offset} where ${due} is due` }
      } else if (batch.term < before.term) {
        yield { invariant: 'replica-divergence', message: `${where} of term ${batch.term} follows term ${before.term}` }
      }
    }
  }
}

/** What two replicas hold as committed is the same; and with the same index and term they hold the same, committed or not. */
export function* checkReplicasAgree({ history }: RecordIndex): Iterable<Violation> {
  const committed = new Map<string, { readonly log: ReplicaLog; readonly batch: BatchFact }>()
  const appended = new Map<string, { readonly log: ReplicaLog; readonly batch: BatchFact }>()
  for (const log of history.replicaLogs ?? []) {
    const name = nameOf(log.topic, log.partition)
    for (const batch of log.batches) {
      const byTerm = firstOf(appended, `${name}#${batch.index}/${batch.term}`, log, batch)
      if (!isSame(byTerm.batch, batch)) {
        yield difference('log matching is broken', byTerm.log, byTerm.batch, log, batch)
        continue
      }
      if (batch.index > log.committedIndex) continue
      const byIndex = firstOf(committed, `${name}#${batch.index}`, log, batch)
      if (!isSame(byIndex.batch, batch)) {
        yield difference('two batches are committed', byIndex.log, byIndex.batch, log, batch)
      }
    }
  }
}

/** Readers are given all records of a committed batch or none. */
export function* checkWholeBatches(index: RecordIndex): Iterable<Violation> {
  for (const log of index.history.replicaLogs ?? []) {
    if (!index.hasFinalLog(log.topic, log.partition)) continue
    for (const { index: at, offset, records } of log.batches) {
      if (at > log.committedIndex || index.isExpired(log.topic, log.partition, offset)) continue
      let there = 0
      for (let i = 0; i < records; i++) if (index.finalAt(log.topic, log.partition, offset + i) !== null) there++
      if (there === 0 || there === records) continue
      yield {
        invariant: 'torn-batch',
        message: `${logName(log)}: of the ${records} records at ${offset} the final read shows ${there}`,
      }
    }
  }
}

function firstOf(
  first: Map<string, { readonly log: ReplicaLog; readonly batch: BatchFact }>,
  name: string,
  log: ReplicaLog,
  batch: BatchFact,
): { readonly log: ReplicaLog; readonly batch: BatchFact } {
  const known = first.get(name)
  if (known !== undefined) return known
  const own = { log, batch }
  first.set(name, own)
  return own
}

function isSame(left: BatchFact, right: BatchFact): boolean {
  return (
    left.term === right.term &&
    left.offset === right.offset &&
    left.records === right.records &&
    left.digest === right.digest
  )
}

function difference(
  what: string,
  leftLog: ReplicaLog,
  left: BatchFact,
  rightLog: ReplicaLog,
  right: BatchFact,
): Violation {
  const show = ({ node }: ReplicaLog, { term, offset, records, digest }: BatchFact) =>
    `node ${node} has ${records} records of term ${term} at ${offset} (${digest})`
  return {
    invariant: 'replica-divergence',
    message: `${what} at ${nameOf(leftLog.topic, leftLog.partition)} index ${left.index}: ${show(leftLog, left)}, ${show(rightLog, right)}`,
  }
}

function logName({ topic, partition, node }: ReplicaLog): string {
  return `${nameOf(topic, partition)} on node ${node}`
}
