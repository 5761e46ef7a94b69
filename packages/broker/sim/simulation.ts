// One run: a broker, its clients and what befalls them, then peace, then the questions.
import { openLogStore } from '#src/storage/open-log-store.js'
import { storageLimits } from '#src/storage/storage-limits.js'
import { setAmbientTraps } from './ambient-traps.js'
import { BROKER_HOST, BrokerNode } from './broker-node.js'
import { checkHistory } from './checker/check-history.js'
import type { ReadFact } from './checker/history.js'
import { Coverage, type CoverageCounts } from './coverage.js'
import { Faults } from './faults.js'
import type { SimulationOptions, TopicOptions } from './options.js'
import { SeededRandom } from './random.js'
import { Recorder } from './recorder.js'
import { flipFlushedBit } from './rot.js'
import { Scheduler } from './scheduler.js'
import { SimulatedClient } from './simulated-client.js'
import { SimulatedMachine } from './simulated-environment.js'
import { SimulatedNetwork } from './simulated-network.js'
import { createTopic, deleteTopic, logStarts } from './topic-admin.js'

export interface Failure {
  /**
   * Of the checker's history, or `exception`, `stuck`, `leak`, `limit`, `memory`, `start-refused`, `unreadable`,
   * `false-damage`, `rot-unseen`, `rot-served`.
   */
  readonly invariant: string
  readonly message: string
}

export interface SimulationResult {
  readonly seed: number
  readonly failures: readonly Failure[]
  readonly traceHash: string
  readonly events: number
  readonly virtualMs: number
  readonly records: { sent: number; acknowledged: number; failed: number; unknown: number; read: number }
  readonly coverage: CoverageCounts
}

export interface SimulationOutput {
  readonly onLog: ((line: string) => void) | null
  readonly onTrace: ((line: string) => void) | null
}

export const QUIET: SimulationOutput = { onLog: null, onTrace: null }

const DISK_BYTES = 512 * 1024 * 1024
const MOST_EVENTS = 3_000_000
/** Virtual time within which everything must come to an end once nothing is broken any more. */
const PEACE_MS = 90_000
const CHURN_TOPIC = 'churn'
const DATA_DIRECTORY = '/data'
/** A few steps of retention, each of which may have to wait for a slot. */
const SETTLED_RETENTION_MS = 2_000
/** Unsent bytes of one connection: what may be pushed, what replies may take, and one batch beyond. */
const MOST_UNSENT_BYTES = 256 * 1024 + 4 * 1024 * 1024 + 4 * 1024 * 1024

class Stuck extends Error {}

export async function runSimulation(
  options: SimulationOptions,
  output: SimulationOutput = QUIET,
): Promise<SimulationResult> {
  const simulation = new Simulation(options, output)
  const takeOffTraps = setAmbientTraps()
  const onRejection = (error: unknown) => simulation.fail('exception', `unhandled rejection: ${stackOf(error)}`)
  process.on('unhandledRejection', onRejection)
  try {
    return await simulation.run()
  } finally {
    process.off('unhandledRejection', onRejection)
    takeOffTraps()
  }
}

class Simulation {
  readonly scheduler = new Scheduler()
  readonly coverage = new Coverage()
  readonly recorder: Recorder
  private readonly random: SeededRandom
  private readonly network: SimulatedNetwork
  private readonly node: BrokerNode
  private readonly faults: Faults
  /** Everyone, dead or alive. */
  private readonly clients: SimulatedClient[] = []
  /** Those with applications of the workload, who may be killed. */
  private readonly workers: SimulatedClient[] = []
  private readonly failures: Failure[] = []
  private peaceful = false
  /** For the report of a run that does not end. */
  private doing = 'it began'
  private hasRead = false
  private hasRotten = false
  private rotWasSeen = false
  /** What the last read found, by topic, partition and offset. */
  private readonly kept = new Map<string, ReadFact>()
  private lastDiskErrorMs = Number.NEGATIVE_INFINITY
  private clientCount = 0

  constructor(
    private readonly options: SimulationOptions,
    private readonly output: SimulationOutput,
  ) {
    const { scheduler } = this
    this.random = new SeededRandom(`run/${options.seed}`)
    this.recorder = new Recorder(() => scheduler.nowMs)
    if (output.onTrace !== null) {
      const { onTrace } = output
      scheduler.trace.onNote = (label, values) => onTrace(`${scheduler.eventsRun} ${label} ${values.join(' ')}`)
    }
    this.network = new SimulatedNetwork(scheduler, { ...options.network }, this.random.split('network'))
    const machine = new SimulatedMachine(scheduler, this.network, this.random.split('machine'), {
      host: BROKER_HOST,
      diskBytes: DISK_BYTES,
      memoryBytes: options.brokerMemoryBytes,
      onLog: (process, { level, fields, message }) => {
        if (message === 'unexpected error') this.fail('exception', `the broker met ${stackOf(fields.error)}`)
        // Rot is injected only at the very end; what the disk refuses to read is another fault.
        if (message.startsWith('records on disk are damaged') || message.startsWith('a log is damaged')) {
          const isRefused = /the disk (refuses|reports)/.test(String(fields.reason))
          if (!this.hasRotten && !isRefused) this.fail('false-damage', describe(fields))
          this.rotWasSeen = this.hasRotten
        }
        this.log(`${process.name} ${level} ${message}`, fields)
      },
      onMisuse: (process, misuse) => this.fail('memory', `${process.name}: ${stackOf(misuse)}`),
      watcher: {
        onWritten: () => this.faults.notice('write completed'),
        onFlushSubmitted: () => this.faults.notice('flush submitted'),
        onFlush: () => {},
        onError: (operation) => {
          this.lastDiskErrorMs = scheduler.nowMs
          if (operation === 'flush') this.recorder.diskLosses.push({ atMs: scheduler.nowMs })
          this.log(`the disk fails a ${operation}`, {})
        },
      },
    })
    const limits = storageLimits({ ...options.storage })
    this.node = new BrokerNode(scheduler, machine, (...args) => openLogStore(...args, limits), {
      onStarted: (durationMs) => {
        this.coverage.count('broker started')
        this.log(`started in ${durationMs.toFixed(1)} ms`, {})
      },
      onStartRefused: (error, begunAtMs) => {
        this.coverage.count('start refused')
        this.log(`start refused: ${error.code} ${error.message}`, {})
        // Nothing but the disk, and only while it fails, may keep a broker from starting.
        if (this.lastDiskErrorMs < begunAtMs) this.fail('start-refused', `${error.code}: ${stackOf(error)}`)
      },
      onBug: (error) => this.fail('exception', stackOf(error)),
    })
    this.faults = new Faults(
      {
        scheduler,
        network: this.network,
        node: this.node,
        coverage: this.coverage,
        onPowerCut: () => this.recorder.diskLosses.push({ atMs: scheduler.nowMs }),
        killSomeClient: (random) => this.killSomeClient(random),
      },
      options.faults,
      this.random.split('faults'),
    )
    this.network.onArrival = () => this.faults.notice('bytes arrived')
  }

  async run(): Promise<SimulationResult> {
    let over = false
    const scenario = this.scenario().then(
      () => {
        over = true
      },
      (error: unknown) => {
        over = true
        this.fail(
          error instanceof Stuck ? 'stuck' : 'exception',
          error instanceof Stuck ? error.message : stackOf(error),
        )
      },
    )
    try {
      const limits = { deadlineMs: this.options.workMs + 6 * PEACE_MS, events: MOST_EVENTS }
      const end = await this.scheduler.run(() => over || this.hasCrashed, limits)
      if (end === 'done' && over) await scenario
      else if (!this.hasCrashed)
        this.fail(
          'stuck',
          `the run came to its ${end} limit at ${this.scheduler.nowMs.toFixed(0)} ms while ${this.doing}`,
        )
    } catch (error) {
      this.fail('exception', stackOf(error))
    }
    // Without its end a history says nothing: what nobody has read would count as lost.
    if (this.hasRead && !this.hasCrashed) this.failures.push(...checkHistory(this.recorder.history(this.allTopics)))
    return this.result()
  }

  /** The first exception ends a run: what follows it means nothing. */
  private get hasCrashed(): boolean {
    return this.failures.some(({ invariant }) => invariant === 'exception' || invariant === 'memory')
  }

  fail(invariant: string, message: string): void {
    this.failures.push({ invariant, message })
    this.log(`FAILED ${invariant}: ${message}`, {})
  }

  // ------------------------------------------------------------ the course of things

  private async scenario(): Promise<void> {
    const { options, scheduler } = this
    this.node.start()
    const operator = this.newClient()
    for (const topic of options.topics) await createTopic(this.adminOf(operator), topic)
    this.faults.begin()
    this.watchLimits()
    for (const [i, plan] of options.producers.entries()) this.clientAt(i).produce(plan, plan.records)
    for (const [i, plan] of options.consumers.entries()) this.clientAt(i).consume(plan)
    const churning = options.faults.topicChurnMs === null ? null : this.churn(options.faults.topicChurnMs)
    await scheduler.sleep(options.workMs)
    this.peaceful = true
    this.faults.heal()
    this.doing = 'the churning topic was to be deleted for the last time'
    await churning
    await this.waitForSends()
    await this.waitForQuiet()
    await this.readFinalLogs()
    this.hasRead = true
    if (this.recorder.lostTail(options.topics)) this.coverage.count('tail of a buffered topic lost')
    await this.waitForConsumers()
    await this.closeEverything()
  }

  private newClient(): SimulatedClient {
    const name = `client-${++this.clientCount}`
    const random = this.random.split(name)
    const bufferBytes = random.chance(0.15) ? 64 * 1024 : 32 * 1024 * 1024
    const world = {
      scheduler: this.scheduler,
      network: this.network,
      recorder: this.recorder,
      coverage: this.coverage,
      onBug: (error: unknown) => this.fail('exception', stackOf(error)),
    }
    const client = new SimulatedClient(world, name, random, bufferBytes)
    this.clients.push(client)
    return client
  }

  /** Producers and consumers share a few clients. */
  private clientAt(i: number): SimulatedClient {
    const worker = this.workers[i % 3] ?? this.newClient()
    if (!this.workers.includes(worker)) this.workers.push(worker)
    return worker
  }

  /** Kills a client; another one takes over its work under new names. */
  private killSomeClient(random: SeededRandom): boolean {
    const candidates = this.workers.filter(({ alive }) => alive)
    if (candidates.length === 0) return false
    const victim = random.pick(candidates)
    victim.kill()
    const heir = this.newClient()
    this.workers.push(heir)
    for (const { plan, recordsLeft } of victim.producers) heir.produce(plan, recordsLeft)
    for (const { plan } of victim.consumers) heir.consume(plan)
    return true
  }

  /** Makes a topic, uses it a little, removes it, and so on under the same name. */
  private async churn(meanGapMs: number): Promise<void> {
    const client = this.newClient()
    const random = this.random.split('churn')
    while (!this.peaceful) {
      await this.scheduler.sleep(random.exponential(meanGapMs))
      const topic: TopicOptions = { name: CHURN_TOPIC, partitions: random.integer(1, 3), durability: 'flushed' }
      await createTopic(this.adminOf(client), topic)
      this.coverage.count('topic created')
      await this.useChurnTopic(client, random)
      await deleteTopic(this.adminOf(client), CHURN_TOPIC)
      this.recorder.topicDeleted(CHURN_TOPIC)
      this.coverage.count('topic deleted')
    }
  }

  private async useChurnTopic(client: SimulatedClient, random: SeededRandom): Promise<void> {
    client.produce({ ...this.options.producers[0]!, topic: CHURN_TOPIC, keys: 3, meanGapMs: 1 }, random.integer(1, 20))
    client.consume({ ...this.options.consumers[0]!, topic: CHURN_TOPIC, from: 'earliest', untilEnd: false })
    await this.scheduler.sleep(random.between(1, 100))
    client.consumers.at(-1)!.stop()
    await this.until('the sends to the churning topic have ended', () => client.producers.at(-1)!.finished)
  }

  private async waitForSends(): Promise<void> {
    const working = () => this.clients.filter(({ alive }) => alive).flatMap(({ producers }) => producers)
    const unfinished = () => working().filter(({ finished }) => !finished)
    await this.until(
      () =>
        `producers have finished: ${unfinished()
          .map((app) => app.describe())
          .join(', ')} have not`,
      () => unfinished().length === 0,
    )
    if (this.recorder.unsettledCount > 0) throw new Stuck(`${this.recorder.unsettledCount} sends have no outcome`)
  }

  /** What was sent without asking for an answer is still on its way when its producers have finished. */
  private async waitForQuiet(): Promise<void> {
    await this.scheduler.sleep(100)
    await this.until('nothing is on its way to the broker or its disk', () => {
      const arriving = [...this.network.connections].some(({ acceptor }) => acceptor.incoming.hasUndelivered)
      return !arriving && this.node.machine.disk.unfinished.size === 0
    })
    await this.scheduler.sleep(100)
    // What is too much goes now, and not while the final read is under way.
    if (this.options.topics.some(({ retentionBytes }) => retentionBytes !== undefined)) {
      await this.scheduler.sleep(SETTLED_RETENTION_MS)
    }
  }

  /** A client without a past reads everything. */
  private async readFinalLogs(): Promise<void> {
    const client = this.newClient()
    for (const { name, partitions } of this.options.topics) {
      const reads: ReadFact[][] = Array.from({ length: partitions }, () => [])
      let completed = false
      const records = client.mill.consumer().subscribe(name, { from: 'earliest', until: 'end' })
      records.subscribe({
        next: ({ partition, offset, key, value, headers, timestamp }) =>
          reads[partition]!.push(this.recorder.readFact(partition, offset, { key, value, headers, timestamp })),
        error: (error: unknown) => this.fail('unreadable', `the final read of ${name} failed: ${stackOf(error)}`),
        complete: () => {
          completed = true
        },
      })
      await this.until(`the final read of ${name} completes`, () => completed || this.failures.length > 0)
      const starts = await logStarts(this.adminOf(client), name)
      for (const [partition, list] of reads.entries()) {
        this.recorder.finalLog(name, partition, starts[partition]!, list)
        for (const fact of list) this.kept.set(`${name}/${partition}@${fact.offset}`, fact)
      }
      if (starts.some((start) => start > 0)) this.coverage.count('log start moved')
    }
  }

  /** Whoever follows a topic from its beginning must have got everything, and soon: credit that is lost shows here. */
  private async waitForConsumers(): Promise<void> {
    const ends = this.recorder.finalEnds()
    const behind = () =>
      this.clients
        .filter(({ alive }) => alive)
        .flatMap(({ consumers }) => consumers)
        .filter(({ plan, current }) => {
          const follows = plan.from === 'earliest' || plan.from === 'latest'
          if (plan.untilEnd || plan.topic === CHURN_TOPIC || !follows) return false
          return (
            current === null || (plan.from === 'earliest' && !hasReached(current.reads, ends.get(plan.topic) ?? []))
          )
        })
    await this.until(
      () =>
        `consumers have caught up: ${behind()
          .map(({ name, plan }) => `${name} on ${plan.topic}`)
          .join(', ')} has not`,
      () => behind().length === 0,
    )
  }

  private async closeEverything(): Promise<void> {
    for (const client of this.clients.filter(({ alive }) => alive)) {
      let closed = false
      void client.close().then(() => {
        closed = true
      })
      await this.until(`${client.name} has closed`, () => closed)
    }
    await this.scheduler.sleep(100)
    for (const { name, alive, environment } of this.clients) {
      if (!alive) continue
      const { pendingTimers } = environment.process
      if (pendingTimers > 0) this.fail('leak', `${name} is closed and has ${pendingTimers} timers`)
      if (environment.links.size > 0)
        this.fail('leak', `${name} is closed and has ${environment.links.size} connections`)
    }
    await this.until('the broker has let go of its connections', () => this.node.broker?.status().connections === 0)
    if (this.options.rots) await this.sufferRot()
    await this.stopBroker()
  }

  // ------------------------------------------------------------ rot

  /** A bit turns over on the disk: it is found, and whoever reads gets what was written or is told that it is damaged. */
  private async sufferRot(): Promise<void> {
    const random = this.random.split('rot')
    const directory = this.node.machine.disk.directory(DATA_DIRECTORY)
    // Topics were made in this order, before anything else was.
    const topicIds = new Set(this.options.topics.map((_, i) => i + 1))
    const flipped = flipFlushedBit(directory, topicIds, random)
    if (flipped === null) return
    this.hasRotten = true
    this.log('a bit turns over on the disk', flipped)
    if (random.chance(0.5)) {
      this.node.kill()
      this.node.start()
      await this.until('the broker runs again', () => this.node.state === 'running')
    }
    const client = this.newClient()
    if (this.options.storage.scrubBytesPerSecond > 0 && random.chance(0.6)) {
      const passes = this.scrubPasses
      await this.until('the scrubber has been round', () => this.rotWasSeen || this.scrubPasses >= passes + 2)
      if (this.rotWasSeen) this.coverage.count('rot found by the scrubber')
      else if (flipped.isThere()) this.fail('rot-unseen', `two passes, and nobody saw ${describe(flipped)}`)
    }
    for (const topic of this.options.topics) await this.readRotten(client, topic.name)
    let closed = false
    void client.close().then(() => {
      closed = true
    })
    await this.until('the last reader has closed', () => closed)
    await this.until('the broker has let go of the last reader', () => this.node.broker?.status().connections === 0)
  }

  private get scrubPasses(): number {
    const { storage } = (this.node.broker?.status() ?? {}) as { storage?: { scrubPasses: number } }
    return storage?.scrubPasses ?? 0
  }

  private async readRotten(client: SimulatedClient, topic: string): Promise<void> {
    let over = false
    client.mill
      .consumer()
      .subscribe(topic, { from: 'earliest', until: 'end' })
      .subscribe({
        next: ({ partition, offset, key, value, headers, timestamp }) => {
          const fact = this.recorder.readFact(partition, offset, { key, value, headers, timestamp })
          const before = this.kept.get(`${topic}/${partition}@${offset}`)
          if (before?.recordId === fact.recordId && before.digest === fact.digest) return
          this.fail('rot-served', `${topic}/${partition}@${offset} is not what it was before a bit turned over`)
        },
        error: (error: unknown) => {
          over = true
          const { code } = error as { code?: string }
          if (code === 'ERR_MILLRACE_DAMAGED') this.coverage.count('rot met by a reader')
          else this.fail('rot-unseen', `the read of ${topic} failed otherwise: ${stackOf(error)}`)
        },
        complete: () => {
          over = true
        },
      })
    await this.until(`the read of ${topic} after the rot ends`, () => over)
  }

  private async stopBroker(): Promise<void> {
    const { environment } = this.node.machine
    let stopped = false
    this.node.stop((error) => {
      stopped = true
      if (error !== null) this.fail('exception', `stopping failed: ${stackOf(error)}`)
    })
    await this.until('the broker has stopped', () => stopped)
    if (environment === null) return
    const { memory, process } = environment
    memory.check()
    if (memory.usedBytes > 0) this.fail('leak', `the broker has stopped and holds ${memory.usedBytes} bytes of memory`)
    if (process.pendingTimers > 0) this.fail('leak', `the broker has stopped and has ${process.pendingTimers} timers`)
  }

  /** Looks now and then at what must stay within bounds. */
  private watchLimits(): void {
    for (const { acceptor } of this.network.connections) {
      const { unsentBytes } = acceptor.outgoing
      if (unsentBytes > MOST_UNSENT_BYTES)
        this.fail('limit', `the broker has ${unsentBytes} bytes unsent to one client`)
    }
    this.scheduler.schedule(null, 10, 'watch', () => this.watchLimits())
  }

  // ------------------------------------------------------------ means

  private adminOf({ mill }: SimulatedClient) {
    return { mill, sleep: (delayMs: number) => this.scheduler.sleep(delayMs) }
  }

  private async until(what: string | (() => string), holds: () => boolean): Promise<void> {
    this.doing = `waiting until ${typeof what === 'string' ? what : what()}`
    const deadlineMs = this.scheduler.nowMs + (this.peaceful ? PEACE_MS : this.options.workMs + PEACE_MS)
    while (!holds()) {
      if (this.scheduler.nowMs > deadlineMs) throw new Stuck(`never: ${typeof what === 'string' ? what : what()}`)
      await this.scheduler.sleep(5)
    }
  }

  private get allTopics(): readonly TopicOptions[] {
    return [...this.options.topics, { name: CHURN_TOPIC, partitions: 3, durability: 'flushed' }]
  }

  private log(text: string, fields: object): void {
    this.output.onLog?.(`${this.scheduler.nowMs.toFixed(3)} ${text} ${describe(fields)}`)
  }

  private result(): SimulationResult {
    const { recorder, scheduler } = this
    return {
      seed: this.options.seed,
      failures: this.failures,
      traceHash: scheduler.trace.digest(),
      events: scheduler.eventsRun,
      virtualMs: scheduler.nowMs,
      records: {
        sent: recorder.sendCount,
        acknowledged: recorder.countOf('acknowledged'),
        failed: recorder.countOf('failed'),
        unknown: recorder.countOf('unknown'),
        read: recorder.readCount,
      },
      coverage: this.coverage.counts,
    }
  }
}

function hasReached(reads: readonly ReadFact[], ends: readonly number[]): boolean {
  const reached = new Map<number, number>()
  for (const { partition, offset } of reads) reached.set(partition, offset + 1)
  return ends.every((end, partition) => (reached.get(partition) ?? 0) >= end)
}

function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  const cause = error.cause === undefined ? '' : `\n  caused by ${stackOf(error.cause)}`
  return `${error.stack ?? error.message}${cause}`
}

function describe(fields: object): string {
  return Object.entries(fields)
    .map(([name, value]) => `${name}=${value instanceof Error ? value.message : JSON.stringify(value)}`)
    .join(' ')
}
