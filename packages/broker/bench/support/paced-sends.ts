// One record after the other to each partition of a topic, and when each was acknowledged: what shows a stall.
import { setTimeout as sleep } from 'node:timers/promises'
import { bytes, type ClientStatistics, type Mill, MillraceError, type Producer, topic } from '@millrace/client'

const PACE_MS = 2
const POLL_MS = 1
/** Times that are kept of each partition: more than one stall is ever asked about. */
const KEPT_TIMES = 100_000

export interface Verdict {
  readonly acknowledged: number
  /** Acknowledged, and not there at the end. */
  readonly lost: number
  /** There more than once. */
  readonly duplicated: number
  /** Sends that ended otherwise than acknowledged. */
  readonly failed: number
  readonly statistics: ClientStatistics
}

class Line {
  /** Of acknowledgements, by `performance.now`. */
  ackedAtMs: number[] = []
  /** By number of the record, the offset it was acknowledged with; absent for one that was not. */
  readonly offsets = new Map<number, number>()
  sent = 0
}

/** Each partition has one record on its way, so that the next acknowledgement is never one of before the fault. */
export class PacedSends {
  acknowledged = 0
  /** Sends that ended otherwise. */
  failed = 0
  private stopping = false
  private readonly lines: readonly Line[]
  private readonly work: Promise<void>[] = []

  constructor(
    private readonly mill: Mill,
    private readonly topicName: string,
    partitions: number,
  ) {
    this.lines = Array.from({ length: partitions }, () => new Line())
  }

  begin(): void {
    const producer = this.mill.producer(topic(this.topicName, { key: bytes, value: bytes }))
    for (const [partition, line] of this.lines.entries()) this.work.push(this.sendOn(producer, partition, line))
  }

  async end(): Promise<void> {
    this.stopping = true
    await Promise.all(this.work)
  }

  /** How long it is since the partition that is silent longest was acknowledged anything. */
  longestSilenceMs(): number {
    const now = performance.now()
    return Math.max(...this.lines.map(({ ackedAtMs }) => now - (ackedAtMs.at(-1) ?? Number.NEGATIVE_INFINITY)))
  }

  /**
   * The longest time between two acknowledgements of a partition of which the later one came at or after `atMs`; waits
   * until the partition goes on. @throws Error when it does not within `limitMs`.
   */
  async stallAround(partition: number, atMs: number, limitMs: number): Promise<number> {
    const { ackedAtMs } = this.lines[partition]!
    const deadlineMs = atMs + limitMs
    // What was on its way back when the fault came is acknowledged still: it goes on with the second or the third.
    while ((ackedAtMs.at(-4) ?? 0) < atMs || performance.now() < atMs + 200) {
      if (performance.now() > deadlineMs) throw new Error(`partition ${partition} does not go on within ${limitMs} ms`)
      await sleep(POLL_MS)
    }
    const first = ackedAtMs.findLastIndex((time) => time < atMs)
    let longestMs = 0
    for (let i = Math.max(1, first + 1); i < ackedAtMs.length; i++) {
      longestMs = Math.max(longestMs, ackedAtMs[i]! - ackedAtMs[i - 1]!)
    }
    return longestMs
  }

  /** Reads everything that is there. */
  async verify(): Promise<Verdict> {
    const times = this.lines.map(() => new Map<number, number>())
    const places = this.lines.map(() => new Map<number, number>())
    const consumer = this.mill.consumer()
    const source = consumer.subscribe(topic(this.topicName, { key: bytes, value: bytes }), {
      from: 'earliest',
      until: 'end',
    })
    for await (const { partition, offset, value } of source) {
      const number = Buffer.from(value ?? new Uint8Array(4)).readUInt32LE()
      times[partition]!.set(number, (times[partition]!.get(number) ?? 0) + 1)
      places[partition]!.set(offset, number)
    }
    await consumer.close()
    let lost = 0
    let duplicated = 0
    for (const [partition, { offsets }] of this.lines.entries()) {
      for (const [number, offset] of offsets) if (places[partition]!.get(offset) !== number) lost++
      for (const count of times[partition]!.values()) if (count > 1) duplicated++
    }
    const { acknowledged, failed } = this
    return { acknowledged, lost, duplicated, failed, statistics: this.mill.statistics() }
  }

  private async sendOn(producer: Producer<Uint8Array, Uint8Array>, partition: number, line: Line): Promise<void> {
    while (!this.stopping) {
      const number = line.sent++
      const value = Buffer.alloc(100)
      value.writeUInt32LE(number)
      try {
        const { offset } = await producer.send(null, value, { partition })
        this.acknowledged++
        line.ackedAtMs.push(performance.now())
        if (line.ackedAtMs.length > KEPT_TIMES) line.ackedAtMs.splice(0, KEPT_TIMES / 2)
        if (offset !== null) line.offsets.set(number, offset)
      } catch (error) {
        if (!MillraceError.is(error)) throw error
        this.failed++
      }
      await sleep(PACE_MS)
    }
  }
}
