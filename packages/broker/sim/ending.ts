// How a run ends once nothing is broken any more: everything settles, is read, caught up with, closed and let go.

import type { BrokerNode } from './broker-node.js'
import type { ReadFact } from './checker/history.js'
import { CHURN_TOPIC } from './churn.js'
import type { RotTrial } from './rot-trial.js'
import type { RunContext } from './run-context.js'
import { stackOf } from './simulation-result.js'
import { logStarts } from './topic-admin.js'

/** A few steps of retention, each of which may have to wait for a slot. */
const SETTLED_RETENTION_MS = 2_000

export async function waitForSends(run: RunContext): Promise<void> {
  const working = () => run.population.alive.flatMap(({ producers }) => producers)
  const unfinished = () => working().filter(({ finished }) => !finished)
  await run.until(
    () =>
      `producers have finished: ${unfinished()
        .map((app) => app.describe())
        .join(', ')} have not, and ${run.recorder.unsettledCount} sends have no outcome`,
    // What was sent to a partition while it had no majority is under way for a moment longer.
    () => unfinished().length === 0 && run.recorder.unsettledCount === 0,
  )
}

/** What was sent without asking for an answer is still on its way when its producers have finished. */
export async function waitForQuiet(run: RunContext): Promise<void> {
  const { scheduler, cluster, options } = run
  await scheduler.sleep(100)
  await run.until('nothing is on its way to the broker or its disk', () => cluster.isQuiet)
  await scheduler.sleep(100)
  // What is too much goes now, and not while the final read is under way.
  if (options.topics.some(({ retentionBytes }) => retentionBytes !== undefined)) {
    await scheduler.sleep(SETTLED_RETENTION_MS)
  }
}

/** A client without a past reads everything. */
export async function readFinalLogs(run: RunContext, rot: RotTrial): Promise<void> {
  for (const topic of run.options.topics) {
    const { name } = topic
    const { logs, starts } = await readFinalLog(run, topic, name)
    for (const [partition, reads] of logs.entries()) rot.keep(name, partition, reads)
    if (starts.some((start) => start > 0)) run.coverage.count('log start moved')
  }
}

/** @param recordedAs what the history calls the topic. */
export async function readFinalLog(
  run: RunContext,
  { name, partitions }: { readonly name: string; readonly partitions: number },
  recordedAs: string,
): Promise<{ readonly logs: readonly ReadFact[][]; readonly starts: readonly number[] }> {
  const { recorder } = run
  const client = run.population.reader()
  const logs: ReadFact[][] = Array.from({ length: partitions }, () => [])
  let completed = false
  const records = client.mill.consumer().subscribe(name, { from: 'earliest', until: 'end' })
  records.subscribe({
    next: ({ partition, offset, key, value, headers, timestamp }) =>
      logs[partition]!.push(recorder.readFact(partition, offset, { key, value, headers, timestamp })),
    error: (error: unknown) => run.fail('unreadable', `the final read of ${name} failed: ${stackOf(error)}`),
    complete: () => {
      completed = true
    },
  })
  await run.until(`the final read of ${name} completes`, () => completed || run.hasFailed)
  const starts = await logStarts(run.population.adminOf(client), name)
  for (const [partition, reads] of logs.entries()) recorder.finalLog(recordedAs, partition, starts[partition]!, reads)
  return { logs, starts }
}

/** Whoever follows a topic from its beginning must have got everything, and soon: credit that is lost shows here. */
export async function waitForConsumers(run: RunContext): Promise<void> {
  const ends = run.recorder.finalEnds()
  const behind = () =>
    run.population.alive
      .flatMap(({ consumers }) => consumers)
      .filter(({ plan, current }) => {
        const follows = plan.from === 'earliest' || plan.from === 'latest'
        if (plan.untilEnd || plan.topic === CHURN_TOPIC || !follows) return false
        return current === null || (plan.from === 'earliest' && !hasReached(current.reads, ends.get(plan.topic) ?? []))
      })
  await run.until(
    () =>
      `consumers have caught up: ${behind()
        .map(({ name, plan }) => `${name} on ${plan.topic}`)
        .join(', ')} has not`,
    () => behind().length === 0,
  )
}

/** A leader that comes back after the final read has segments of its own, and shortens its log by them. */
export async function askLastStarts({ options, population, recorder, scheduler }: RunContext): Promise<void> {
  for (const { name, retentionBytes } of options.topics) {
    if (retentionBytes === undefined) continue
    const askedAtMs = scheduler.nowMs
    const starts = await logStarts(population.adminOf(population.reader()), name)
    for (const [partition, startOffset] of starts.entries()) {
      recorder.lastStarts.push({ topic: name, partition, askedAtMs, startOffset })
    }
  }
}

function hasReached(reads: readonly ReadFact[], ends: readonly number[]): boolean {
  const reached = new Map<number, number>()
  for (const { partition, offset } of reads) reached.set(partition, offset + 1)
  return ends.every((end, partition) => (reached.get(partition) ?? 0) >= end)
}

export async function closeClients(run: RunContext): Promise<void> {
  for (const client of run.population.alive) {
    let closed = false
    void client.close().then(() => {
      closed = true
    })
    await run.until(`${client.name} has closed`, () => closed)
  }
  await run.scheduler.sleep(100)
  for (const { name, environment } of run.population.alive) {
    const { pendingTimers } = environment.process
    if (pendingTimers > 0) run.fail('leak', `${name} is closed and has ${pendingTimers} timers`)
    if (environment.links.size > 0) {
      run.fail('leak', `${name} is closed and has ${environment.links.size} connections`)
    }
  }
  await run.until(
    () => `the brokers have let go of their connections: ${run.cluster.describeConnections()}`,
    () => run.cluster.hasNoClients,
  )
}

export async function stopBroker(run: RunContext, node: BrokerNode): Promise<void> {
  const { environment } = node.machine
  let stopped = false
  node.stop((error) => {
    stopped = true
    if (error !== null) run.fail('exception', `stopping failed: ${stackOf(error)}`)
  })
  await run.until('the broker has stopped', () => stopped)
  if (environment === null) return
  const { memory, process } = environment
  memory.check()
  if (memory.usedBytes > 0) run.fail('leak', `the broker has stopped and holds ${memory.usedBytes} bytes of memory`)
  if (process.pendingTimers > 0) run.fail('leak', `the broker has stopped and has ${process.pendingTimers} timers`)
}
