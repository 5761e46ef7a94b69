// An application that produces: bursts of records with its own keys, every outcome written down.
import { type BatchDelivery, BatchDeliveryError, type Mill, type MillraceError, type Producer } from '@millrace/client'
import type { AppContext } from './app-context.js'
import { mustBeMillraceError } from './app-context.js'
import type { ProducerPlan } from './options.js'
import { drawRecord, type PlainRecord } from './recorder.js'

const RETRY_MS = 20

export class ProducerApp {
  /** Every record has been handed over and has an outcome, and the producer is closed. */
  finished = false
  private left: number
  private doing = 'sleeping'
  private readonly open = new Set<number>()

  /** @param records how many to send. */
  constructor(
    private readonly context: AppContext,
    readonly name: string,
    readonly plan: ProducerPlan,
    records: number,
  ) {
    this.left = records
  }

  get recordsLeft(): number {
    return this.left
  }

  /** Nothing more is sent; what was sent already goes on. */
  halt(): void {
    this.left = 0
  }

  /** For the report of a run that does not end. */
  describe(): string {
    return `${this.name} (${this.doing}, ${this.left} records left, ${this.open.size} sends open)`
  }

  async run(mill: Mill): Promise<void> {
    const { random, sleep } = this.context
    const { acks, codec, batchBytes, inFlightBatches, deliveryTimeoutMs, burst, meanGapMs, batched } = this.plan
    const producer = mill.producer(this.plan.topic, { acks, codec, batchBytes, inFlightBatches, deliveryTimeoutMs })
    const sends: Promise<void>[] = []
    while (this.left > 0) {
      this.doing = 'sleeping'
      await sleep(random.exponential(meanGapMs))
      this.doing = 'waiting for room'
      if (!(await isReady(producer))) {
        await sleep(RETRY_MS)
        continue
      }
      const count = Math.min(burst, this.left)
      this.left -= count
      if (batched) sends.push(this.sendTogether(producer, count))
      else for (let i = 0; i < count; i++) sends.push(this.sendOne(producer))
      this.doing = 'flushing'
      if (random.chance(0.1)) await producer.flush().catch(mustBeMillraceError)
    }
    this.doing = 'waiting for sends'
    await Promise.all(sends)
    this.doing = 'closing'
    await producer.close().catch(mustBeMillraceError)
    this.finished = true
  }

  /** The process is gone: what it was waiting for it will never hear. */
  abandon(): void {
    for (const recordId of this.open) this.context.recorder.abandoned(recordId)
    this.open.clear()
  }

  private async sendOne(producer: Producer<Uint8Array, Uint8Array>): Promise<void> {
    const { recordId, record } = this.draw()
    const { key, value, headers, timestamp } = record
    try {
      const { partition, offset } = await producer.send(key, value, { headers, timestamp })
      this.acknowledged(recordId, partition, offset)
    } catch (error) {
      mustBeMillraceError(error)
      this.refused(recordId, error)
    }
  }

  private async sendTogether(producer: Producer<Uint8Array, Uint8Array>, count: number): Promise<void> {
    const drawn = Array.from({ length: count }, () => this.draw())
    let result: BatchDelivery
    try {
      result = await producer.sendBatch(drawn.map(({ record }) => record))
    } catch (error) {
      mustBeMillraceError(error)
      if (!(error instanceof BatchDeliveryError)) {
        for (const { recordId } of drawn) this.refused(recordId, error)
        return
      }
      result = error.result
    }
    for (const [i, { recordId }] of drawn.entries()) {
      const outcome = result.outcome(i)
      if (outcome.outcome === 'acknowledged') this.acknowledged(recordId, outcome.partition, outcome.offset)
      else this.refused(recordId, outcome.error)
    }
  }

  private draw(): { readonly recordId: number; readonly record: PlainRecord } {
    const { recorder, environment, random } = this.context
    const { topic, recordedAs = topic, acks, keys, largestValueBytes, nullRate } = this.plan
    const drawn = recorder.send(this.name, recordedAs, acks, (idHeader) =>
      drawRecord(random, keys, largestValueBytes, nullRate, environment.wallMs(), idHeader),
    )
    this.open.add(drawn.recordId)
    return drawn
  }

  private acknowledged(recordId: number, partition: number, offset: number | null): void {
    const { recorder, coverage } = this.context
    if (offset === null && this.plan.acks !== 'none') coverage.count('acknowledged without offset')
    recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition, offset })
    this.open.delete(recordId)
  }

  private refused(recordId: number, error: MillraceError): void {
    const { recorder, coverage } = this.context
    const outcome = error.outcome ?? 'unknown'
    if (error.code === 'ERR_MILLRACE_BUFFER_FULL') coverage.count('buffer full')
    coverage.count(outcome === 'failed' ? 'send failed' : 'send unknown')
    recorder.settled(recordId, outcome, null)
    this.open.delete(recordId)
  }
}

async function isReady(producer: Producer<Uint8Array, Uint8Array>): Promise<boolean> {
  try {
    await producer.ready()
    return true
  } catch (error) {
    mustBeMillraceError(error)
    return false
  }
}
