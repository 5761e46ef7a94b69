// One produce workload from start to figures: broker process, topic, closed loop, limit of the same run.
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { connect, type ProducerOptions } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { type BenchOptions, benchOptions, type RunOptions } from './bench-options.js'
import { BrokerUnderTest } from './broker-under-test.js'
import { diskWrites, type Limit, loopbackTcp } from './limits.js'
import { type ProduceFigures, percentileMs, produceLoad } from './produce-load.js'

export interface ProduceWorkload {
  readonly name: string
  readonly partitions: number
  readonly durability: 'flushed' | 'buffered'
  readonly recordBytes: number
  readonly recordsPerCall: number
  readonly callsInFlight: number
  readonly options?: ProducerOptions
  /** What the result is held against. */
  readonly limit: 'loopback' | 'flushedWrites'
}

const MEGABYTE = 1e6
const GIGABYTE = 1e9
const SECONDS = 8

const round = (value: number, digits = 2): number => Number(value.toFixed(digits))

export async function produceBench(workload: ProduceWorkload, run: RunOptions): Promise<Record<string, unknown>> {
  const options = benchOptions(run, SECONDS)
  const broker = await BrokerUnderTest.start(options.prefer)
  const mill = connect({ bootstrap: broker.bootstrap, bufferBytes: 64 * 1024 * 1024 })
  try {
    const control = admin(mill)
    const { partitions, durability } = workload
    await control.createTopic('bench', { partitions, durability })
    const before = await groups(control)
    let cpu: number | null = null
    const figures = await produceLoad(mill, {
      ...workload,
      topic: 'bench',
      keys: 1000,
      seconds: options.seconds,
      warmUpSeconds: options.warmUpSeconds,
      onMeasure: () => broker.mark(),
      onMeasured: () => {
        cpu = broker.cpuSinceMark()
      },
    })
    const after = await groups(control)
    const groupBytes = (after.bytesWritten - before.bytesWritten) / Math.max(1, after.flushes - before.flushes)
    const peak = broker.peakRssMb()
    await mill.close()
    await broker.stop()
    const limit = await limitOf(workload, groupBytes, options)
    return {
      ...row(workload, broker.environment, figures, cpu, limit),
      brokerPeakRssMb: peak && round(peak, 0),
      groupBytes: Math.round(groupBytes),
    }
  } finally {
    await mill.close()
    await broker.stop()
  }
}

interface GroupFigures {
  readonly bytesWritten: number
  readonly flushes: number
}

async function groups(control: ReturnType<typeof admin>): Promise<GroupFigures> {
  const { storage } = await control.brokerStatus()
  const { bytesWritten, flushes } = storage as Partial<GroupFigures>
  if (bytesWritten === undefined || flushes === undefined) throw new Error('the broker does not tell what it wrote')
  return { bytesWritten, flushes }
}

async function limitOf(workload: ProduceWorkload, groupBytes: number, options: BenchOptions): Promise<Limit> {
  const seconds = Math.max(0.3, options.seconds / 2)
  if (workload.limit === 'loopback') return loopbackTcp(seconds)
  const directory = mkdtempSync(join(tmpdir(), 'millrace-limit-'))
  const logger = createConsoleLogger({ level: 'error', format: 'text' })
  const environment = await chooseEnvironment({ prefer: options.prefer, memoryBytes: 64 * 1024 * 1024, logger })
  try {
    return await diskWrites(environment, directory, { groupBytes, seconds, flushed: true })
  } finally {
    await environment.close()
    rmSync(directory, { recursive: true, force: true })
  }
}

function row(
  workload: ProduceWorkload,
  environment: string,
  figures: ProduceFigures,
  cpu: number | null,
  limit: Limit,
): Record<string, unknown> {
  const mbPerSecond = figures.bytes / MEGABYTE / figures.seconds
  return {
    name: workload.name,
    recordsPerSecond: Math.round(figures.records / figures.seconds),
    mbPerSecond: round(mbPerSecond, 1),
    p50Ms: round(percentileMs(figures.latency, 50)),
    p99Ms: round(percentileMs(figures.latency, 99)),
    brokerCpuSecondsPerGb: cpu === null ? null : round(cpu / (figures.bytes / GIGABYTE)),
    environment,
    limit: { name: limit.name, mbPerSecond: round(limit.mbPerSecond, 1) },
    ofLimit: round(mbPerSecond / limit.mbPerSecond),
  }
}
