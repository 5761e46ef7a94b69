// An application that produces: bursts of records with its own keys, every outcome written down.
import { type Mill, MillraceError, type Producer } from '@millrace/client'
import type { AppContext } from './app-context.js'
import { mustBeMillraceError } from './app-context.js'
import type { ProducerPlan } from './options.js'
import { drawRecord } from './recorder.js'

const RETRY_MS = 20

export class ProducerApp {
  /** Every record has been handed over and has an outcome, and the producer is closed. */
  finished = false
  private left: number
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

  async run(mill: Mill): Promise<void> {
    const { random, sleep } = this.context
    const { acks, codec, batchBytes, inFlightBatches, deliveryTimeoutMs, burst, meanGapMs } = this.plan
    const producer = mill.producer(this.plan.topic, { acks, codec, batchBytes, inFlightBatches, deliveryTimeoutMs })
    const sends: Promise<void>[] = []
    while (this.left > 0) {
      await sleep(random.exponential(meanGapMs))
      if (!(await isReady(producer))) {
        await sleep(RETRY_MS)
        continue
      }
      for (let i = 0; i < burst && this.left > 0; i++) {
        this.left--
        sends.push(this.sendOne(producer))
      }
      if (random.chance(0.1)) await producer.flush().catch(mustBeMillraceError)
    }
    await Promise.all(sends)
    await producer.close().catch(mustBeMillraceError)
    this.finished = true
  }

  /** The process is gone: what it was waiting for it will never hear. */
  abandon(): void {
    for (const recordId of this.open) this.context.recorder.abandoned(recordId)
    this.open.clear()
  }

  private async sendOne(producer: Producer<Uint8Array, Uint8Array>): Promise<void> {
    const { recorder, coverage, environment, random } = this.context
    const { topic, acks, keys, largestValueBytes, nullRate } = this.plan
    const { recordId, record } = recorder.send(this.name, topic, acks, (idHeader) =>
      drawRecord(random, keys, largestValueBytes, nullRate, environment.wallMs(), idHeader),
    )
    this.open.add(recordId)
    const { key, value, headers, timestamp } = record
    try {
      const { partition, offset } = await producer.send(key, value, { headers, timestamp })
      if (offset === null && acks !== 'none') coverage.count('acknowledged without offset')
      recorder.settled(recordId, 'acknowledged', offset === null ? null : { partition, offset })
    } catch (error) {
      mustBeMillraceError(error)
      const outcome = MillraceError.is(error) ? (error.outcome ?? 'unknown') : 'unknown'
      if (MillraceError.is(error) && error.code === 'ERR_MILLRACE_BUFFER_FULL') coverage.count('buffer full')
      coverage.count(outcome === 'failed' ? 'send failed' : 'send unknown')
      recorder.settled(recordId, outcome, null)
    }
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
