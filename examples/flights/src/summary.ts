// What the run found out, as a table for people and as one line of JSON for programs.
import { type CheckResult, isClean } from './checker.js'

export interface Summary extends CheckResult {
  /** Records a second, from the first send of the load to its last receipt, the kill and the restart included. */
  readonly recordsPerSecond: number
  /** The same stretch in megabytes (10^6) of keys and values a second. */
  readonly mbPerSecond: number
  /** Milliseconds from when a record was due until the consumer had it, at a steady rate below saturation. */
  readonly p50Ms: number
  readonly p99Ms: number
  readonly p999Ms: number
  readonly latencyRecordsPerSecond: number
  /** CPU seconds of both lives of the broker per 10^9 bytes of keys and values, in and out; null without /proc. */
  readonly brokerCpuSecondsPerGb: number | null
  readonly brokerPeakRssMb: number | null
  readonly bytesOnDisk: number
  readonly brokers: number
  /** Of a single broker: from its second start until a record is acknowledged. */
  readonly restartToFirstAckMs?: number
  /** In a cluster: from the kill until another broker acknowledges a record in place of the one that was killed. */
  readonly failoverMs?: number
  readonly environment: string
}

export function printSummary(summary: Summary): void {
  const number = (value: number, digits = 0): string =>
    value.toLocaleString('en-US', { minimumFractionDigits: digits, maximumFractionDigits: digits })
  const known = (value: number | null, digits: number): string => (value === null ? 'not known' : number(value, digits))
  const rows: readonly (readonly [string, string, string])[] = [
    ['sent', number(summary.sent), ''],
    ['acknowledged', number(summary.acknowledged), ''],
    ['received', number(summary.received), ''],
    ['lost', number(summary.lost), 'acknowledged, but never received'],
    ['duplicated', number(summary.duplicated), ''],
    ['out of order', number(summary.outOfOrder), 'received after a later record of the same key'],
    ['unresolved', number(summary.unresolved), 'neither acknowledged nor received'],
    ['records a second', number(summary.recordsPerSecond), 'kill and restart included'],
    ['MB a second', number(summary.mbPerSecond, 1), 'keys and values'],
    [
      'latency p50',
      `${number(summary.p50Ms, 2)} ms`,
      `due to received, at ${number(summary.latencyRecordsPerSecond)} records a second`,
    ],
    ['latency p99', `${number(summary.p99Ms, 2)} ms`, ''],
    ['latency p99.9', `${number(summary.p999Ms, 2)} ms`, ''],
    ['broker CPU a GB', `${known(summary.brokerCpuSecondsPerGb, 2)} s`, 'to take it in and to hand it out'],
    ['broker peak memory', `${known(summary.brokerPeakRssMb, 0)} MB`, ''],
    ['on disk', `${number(summary.bytesOnDisk / 1e6, 1)} MB`, ''],
    backRow(summary, number),
    ['environment', summary.environment, ''],
  ]
  for (const [name, value, remark] of rows)
    console.log(`   ${name.padEnd(20)} ${value.padStart(14)}  ${remark}`.trimEnd())
  console.log(
    isClean(summary)
      ? '\nNothing lost, duplicated or out of order.'
      : '\nRECORDS WERE LOST, DUPLICATED OR OUT OF ORDER.',
  )
}

function backRow(
  { restartToFirstAckMs, failoverMs }: Summary,
  number: (value: number) => string,
): readonly [string, string, string] {
  if (failoverMs !== undefined)
    return ['failover', `${number(failoverMs)} ms`, 'from SIGKILL to the next leader at work']
  const ms = number(restartToFirstAckMs ?? Number.NaN)
  return ['restart to first ack', `${ms} ms`, 'after SIGKILL, on the same data directory']
}

/** The value below which `fraction` of the sorted values lie. */
export function percentile(sorted: Float64Array, fraction: number): number {
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * fraction))] ?? 0
}
