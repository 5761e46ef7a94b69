// The load: the flights over and over, first at a steady rate to measure latency, then as fast as they go, with the
// broker killed and started again in the middle: of a cluster, one that leads.
import { setTimeout as sleep } from 'node:timers/promises'
import { json, type Mill, type Producer, type Serde, type Topic, topic, utf8 } from '@millrace/client'
import { firstValueFrom } from 'rxjs'
import type { Brokers } from './brokers.js'
import { Checker, type CheckResult } from './checker.js'
import type { Flight } from './flights.js'
import { ProgressBar } from './progress-bar.js'

/** A flight with what the checks need. */
interface LoadRecord {
  /** How many records of the same airport were sent before this one. */
  readonly number: number
  /** When it had to be sent, on the clock of `performance.now()`; only while the rate is steady. */
  readonly dueMs?: number
  readonly flight: Flight
}

export const STEADY_RECORDS_PER_SECOND = 10_000
const STEADY_SECONDS = 5
const TICK_MS = 5
/** Nothing new for so long, and what is missing counts as lost. */
const PATIENCE_MS = 15_000
const LATE_DUPLICATES_MS = 250

export interface LoadResult extends CheckResult {
  /** Of the stretch at full speed: from its first send to its last receipt. */
  readonly records: number
  readonly seconds: number
  readonly megabytes: number
  readonly brokerCpuSeconds: number | null
  /** Milliseconds from due to received, sorted, of the records sent at the steady rate. */
  readonly latenciesMs: Float64Array
  /**
   * Until a record is acknowledged again by the broker that was killed, from its second start; in a cluster, by another one in
   * its place, from the kill.
   */
  readonly backAfterMs: number
}

export class Load {
  static readonly topic = 'load'
  readonly #brokers: Brokers
  readonly #flights: readonly Flight[]
  readonly #records: number
  readonly #topic: Topic<string, LoadRecord>
  readonly #mill: Mill
  readonly #producer: Producer<string, LoadRecord>
  readonly #checker = new Checker()
  readonly #bar: ProgressBar
  readonly #latenciesMs: number[] = []
  #sentBytes = 0
  #lastReceiptMs = 0
  /** Since when an acknowledgement from the partitions of the broker that was killed is waited for. */
  #awaitedSinceMs: number | null = null
  /** Partitions it led. */
  #struck: ReadonlySet<number> = new Set()
  #backAfterMs = Number.NaN

  constructor(mill: Mill, brokers: Brokers, flights: readonly Flight[], records: number) {
    this.#mill = mill
    this.#brokers = brokers
    this.#flights = flights
    this.#records = records
    this.#topic = topic(Load.topic, { key: utf8, value: this.#countingBytes(json<LoadRecord>()) })
    this.#producer = mill.producer(this.#topic)
    this.#bar = new ProgressBar(records)
  }

  async run(): Promise<LoadResult> {
    const following = this.#mill
      .consumer()
      .subscribe(this.#topic, { from: 'earliest' })
      .subscribe({ next: ({ key, value }) => this.#received(key, value), error: this.#fail })

    const steadyRecords = Math.min(STEADY_RECORDS_PER_SECOND * STEADY_SECONDS, Math.floor(this.#records / 10))
    await this.#sendSteadily(steadyRecords)
    await this.#allReceived()

    const startMs = performance.now()
    const bytesBefore = this.#sentBytes
    const cpuBefore = this.#brokers.cpuSeconds
    await this.#sendAtFullSpeed(this.#records - steadyRecords)
    await this.#allReceived()
    const cpuAfter = this.#brokers.cpuSeconds
    await sleep(LATE_DUPLICATES_MS)
    following.unsubscribe()
    this.#bar.end()
    return {
      ...this.#checker.result(),
      records: this.#records - steadyRecords,
      seconds: (this.#lastReceiptMs - startMs) / 1000,
      megabytes: (this.#sentBytes - bytesBefore) / 1e6,
      brokerCpuSeconds: cpuBefore === null || cpuAfter === null ? null : cpuAfter - cpuBefore,
      latenciesMs: Float64Array.from(this.#latenciesMs).sort(),
      backAfterMs: this.#backAfterMs,
    }
  }

  /** An open loop: records are due at fixed times, however the ones before them fare. */
  async #sendSteadily(records: number): Promise<void> {
    const startMs = performance.now()
    const perTick = (STEADY_RECORDS_PER_SECOND * TICK_MS) / 1000
    for (let sent = 0; sent < records; sent += perTick) {
      const dueMs = startMs + (sent / perTick) * TICK_MS
      // Even when it is late it pauses: what comes back has to be received meanwhile.
      do await sleep(1)
      while (performance.now() < dueMs)
      for (let index = sent; index < Math.min(sent + perTick, records); index++) this.#send(index, dueMs)
    }
    await this.#flush()
  }

  /** As fast as `ready` lets it; halfway the broker is killed, and sending goes on regardless. */
  async #sendAtFullSpeed(records: number): Promise<void> {
    let restarted: Promise<void> | null = null
    for (let sent = 0; sent < records; sent++) {
      if (sent >= records / 2) restarted ??= this.#killAndRestart()
      await this.#producer.ready()
      this.#send(sent)
    }
    await restarted
    await this.#flush()
  }

  async #killAndRestart(): Promise<void> {
    const { nodeId } = await this.#mill.cluster.whereIs(this.#topic, this.#flights[0]!.origin)
    const broker = this.#brokers.broker(this.#brokers.count === 1 ? 1 : nodeId)
    this.#struck = await this.#partitionsOf(nodeId)
    const which =
      this.#brokers.count === 1 ? 'the broker' : `broker ${nodeId}, which leads ${this.#struck.size} partitions,`
    this.#bar.say(`${which} is killed with SIGKILL and started again on its data`)
    await broker.kill()
    if (this.#brokers.count > 1) this.#awaitedSinceMs = performance.now()
    const startedAtMs = performance.now()
    await broker.start()
    if (this.#brokers.count === 1) this.#awaitedSinceMs = startedAtMs
  }

  async #partitionsOf(nodeId: number): Promise<ReadonlySet<number>> {
    const { topics } = await firstValueFrom(this.#mill.cluster.map$)
    const partitions = topics.find(({ name }) => name === Load.topic)?.partitions ?? []
    return new Set(partitions.filter((route) => route.nodeId === nodeId).map(({ partition }) => partition))
  }

  #send(index: number, dueMs?: number): void {
    const flight = this.#flights[index % this.#flights.length] as Flight
    const key = flight.origin
    const number = this.#checker.send(key)
    const record = dueMs === undefined ? { number, flight } : { number, dueMs, flight }
    this.#sentBytes += key.length
    // A record that fails is not forgotten: `flush` tells of it, and the checker never sees it acknowledged.
    this.#producer.send(key, record).then(
      ({ partition }) => this.#acknowledged(key, number, partition),
      () => {},
    )
  }

  #acknowledged(key: string, number: number, partition: number): void {
    this.#checker.acknowledge(key, number)
    if (this.#awaitedSinceMs === null || !this.#struck.has(partition)) return
    this.#backAfterMs = performance.now() - this.#awaitedSinceMs
    this.#awaitedSinceMs = null
    this.#bar.say(`back after ${this.#backAfterMs.toFixed(0)} ms`)
  }

  #received(key: string | null, value: LoadRecord | null): void {
    if (key === null || value === null) throw new Error('a record without key or value was never sent')
    this.#lastReceiptMs = performance.now()
    this.#checker.receive(key, value.number)
    if (value.dueMs !== undefined) this.#latenciesMs.push(this.#lastReceiptMs - value.dueMs)
    this.#bar.show(this.#checker.received, this.#checker.acknowledged)
  }

  async #flush(): Promise<void> {
    try {
      await this.#producer.flush()
    } catch (error) {
      this.#bar.say(error instanceof Error ? error.message : String(error))
    }
  }

  /** Waits until every acknowledged record has come back, or nothing has come for long. */
  async #allReceived(): Promise<void> {
    const sinceMs = performance.now()
    while (this.#checker.missing > 0 && performance.now() - Math.max(sinceMs, this.#lastReceiptMs) < PATIENCE_MS) {
      await sleep(5)
    }
  }

  /** A serde is two functions; this one also counts what it encodes. */
  #countingBytes<T>(serde: Serde<T>): Serde<T> {
    return {
      encode: (value, scratch) => {
        const bytes = serde.encode(value, scratch)
        this.#sentBytes += bytes.length
        return bytes
      },
      decode: (bytes) => serde.decode(bytes),
    }
  }

  readonly #fail = (error: unknown): void => {
    throw error
  }
}
