// Small tails: what it costs that each flushed group is padded to a block when many partitions get tiny batches at once.
// On the storage layer alone. Each round appends one batch to each of many logs within a turn and waits until all of
// them are flushed; `one log` does the same with all batches in one log, which is the most that a shared journal could
// gain on the way to the acknowledgement: one write instead of many, and as good as no padding.
import { mkdtemp, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32, LOG_PART_BYTES, RecordBatchBuilder, readBatchHeader } from '@millrace/protocol'
import type { Block, Environment } from '#src/environment.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import type { LogState, LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { round } from './support/session.js'

export const name = 'small-tails'

const BATCH_VALUE_BYTES = 100
const OPENS_AT_ONCE = 256
/** Small slots, so that ten thousand logs do not need ten gigabytes; nothing else depends on it. */
const LIMITS = { slotBytes: [256 * 1024, 8 * 1024 * 1024, 64 * 1024 * 1024], reserveSlots: 4 }
const NO_STATE: LogState = { encodeState: () => new Uint8Array(0), restoreState: () => {}, replay: () => {} }

export async function run(options: RunOptions): Promise<object> {
  const bench = benchOptions(options, 3)
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  const memoryBytes = 512 * 1024 * 1024
  const environment = await chooseEnvironment({ prefer: bench.prefer, memoryBytes, logger })
  const counts = options.tiny ? [20] : [1_000, 10_000]
  const figures: object[] = []
  try {
    for (const partitions of counts) figures.push(await measure(environment, partitions, bench.seconds, options.tiny))
    return { name, environment: environment.kind, batchBytes: newBatch().length + LOG_PART_BYTES, figures }
  } finally {
    await environment.close()
  }
}

async function measure(environment: Environment, partitions: number, seconds: number, tiny: boolean): Promise<object> {
  const directory = await mkdtemp(join(tmpdir(), 'millrace-small-tails-'))
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  const identity = { clusterId: 'bench', nodeId: 1, diskId: '0'.repeat(32) }
  const store = await openLogStore(environment, volume, identity, LIMITS)
  const batch = newBatch()
  const source = environment.memory.allocate(batch.length)
  if (source === null) throw new Error('no memory is left')
  try {
    source.bytes.set(batch)
    const began = performance.now()
    const logs = await openLogs(store, partitions, source)
    const openedSeconds = (performance.now() - began) / 1000
    const width = (wanted: number): number => Math.min(wanted, partitions)
    const widths = tiny ? [width(20)] : [width(16), width(256), width(4096)]
    const rounds: object[] = []
    for (const logsPerRound of new Set(widths)) {
      const own = await rate(environment, store, logs, logsPerRound, source, seconds)
      const [first] = logs
      const one = await rate(environment, store, new Array<PartitionLog>(1).fill(first!), logsPerRound, source, seconds)
      rounds.push({ logsPerRound, own, oneLog: one })
    }
    return { partitions, openedSeconds: round(openedSeconds), flushMethod: volume.flushMethod, rounds }
  } finally {
    environment.memory.release(source)
    await store.close()
    await volume.close()
    await rm(directory, { recursive: true, force: true })
  }
}

/** Logs with a slot of their own each. */
async function openLogs(store: LogStore, count: number, source: Block): Promise<PartitionLog[]> {
  const logs: PartitionLog[] = []
  for (let from = 0; from < count; from += OPENS_AT_ONCE) {
    const some = Array.from({ length: Math.min(OPENS_AT_ONCE, count - from) }, async (_, i) => {
      const log = await store.open({ topicId: 1, partition: from + i, lane: 0 }, NO_STATE)
      await append(log, source)
      await log.flush()
      return log
    })
    logs.push(...(await Promise.all(some)))
  }
  return logs
}

/** Rounds of `perRound` batches for so many seconds, spread over the logs. */
async function rate(
  environment: Environment,
  store: LogStore,
  logs: readonly PartitionLog[],
  perRound: number,
  source: Block,
  seconds: number,
): Promise<object> {
  const before = store.statistics
  const latencies: number[] = []
  const began = environment.clock.monotonicMs()
  const endMs = began + seconds * 1000
  let next = 0
  while (environment.clock.monotonicMs() < endMs) {
    const startedMs = environment.clock.monotonicMs()
    const used = new Set<PartitionLog>()
    for (let i = 0; i < perRound; i++) {
      const log = logs[next++ % logs.length]!
      if (log.hasRoom(LOG_PART_BYTES + BATCH_VALUE_BYTES * 2)) appendNow(log, source)
      else await append(log, source)
      used.add(log)
    }
    await Promise.all([...used].map((log) => log.flush()))
    latencies.push(environment.clock.monotonicMs() - startedMs)
  }
  const tookSeconds = (environment.clock.monotonicMs() - began) / 1000
  const after = store.statistics
  const batches = latencies.length * perRound
  latencies.sort((a, b) => a - b)
  return {
    recordsPerSecond: Math.round(batches / tookSeconds),
    roundMsMedian: round(latencies[latencies.length >> 1] ?? 0),
    roundMsP99: round(latencies[Math.floor(latencies.length * 0.99)] ?? 0),
    flushesPerRound: round((after.flushes - before.flushes) / latencies.length),
    groupsPerRound: round((after.groups - before.groups) / latencies.length),
    bytesWrittenPerBatch: Math.round((after.bytesWritten - before.bytesWritten) / batches),
    writtenByIngested: round((after.bytesWritten - before.bytesWritten) / (after.bytesAppended - before.bytesAppended)),
    mbWrittenPerSecond: round((after.bytesWritten - before.bytesWritten) / 1e6 / tookSeconds, 1),
  }
}

async function append(log: PartitionLog, source: Block): Promise<void> {
  while (!log.hasRoom(LOG_PART_BYTES + BATCH_VALUE_BYTES * 2)) await new Promise<void>((resolve) => log.onRoom(resolve))
  appendNow(log, source)
}

function appendNow(log: PartitionLog, source: Block): void {
  const { index, nextOffset } = log.filled
  const stamp = { term: 1, baseOffset: nextOffset, index: index + 1, appendTime: 1 }
  if (!log.append(source, 0, readBatchHeader(source.view, 0), stamp, 'flush'))
    throw new Error('a good batch was refused')
}

function newBatch(): Uint8Array {
  const builder = new RecordBatchBuilder(4096)
  builder.tryAppend(null, new Uint8Array(BATCH_VALUE_BYTES).fill(7), null, 1)
  const identity = { topicId: 1, partition: 0, lane: 0, control: false, producer: [1, 2, 3, 4] as const }
  return builder.seal({ identity: { ...identity, epoch: 0, sequence: 0 }, checksum: crc32 })
}
