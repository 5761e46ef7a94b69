// Fuzzes a partition against a model of producers: retries, gaps, epochs, damage, commits and restarts in any order.
// Every batch is answered once and as the model says, and the log holds what the model holds.
import { LOG_PART_BYTES, PRODUCER_WINDOW_BATCHES, SeededRandom } from '@millrace/protocol'
import { endOffsetOf } from '#src/storage/read-selection.js'
import { type Outcome, openPartition, type PartitionFixture } from '../test/partition/fixture.js'
import { batchOf } from '../test/server/batches.js'
import { mutated } from './bytes.js'

export const name = 'produce'

interface Accepted {
  readonly sequence: number
  readonly baseOffset: number
  readonly index: number
}

/** A producer as the partition should know it: every batch of the current epoch. */
interface ModelProducer {
  epoch: number
  batches: Accepted[]
}

interface Sent {
  readonly outcome: Outcome
  readonly wanted: string
  /** Offset, null for none; meaningful when `wanted` is OK. */
  readonly baseOffset: number | null
  /** It has to wait for this batch to be committed. */
  readonly index: number
}

const PRODUCERS = 4
const STEPS = 60

class Run {
  readonly model = new Map<number, ModelProducer>()
  readonly sent: Sent[] = []
  /** What the log should hold; null for the batch that begins a term, which is the partition's own. */
  readonly stored: (Uint8Array | null)[] = [null]
  nextOffset = 0
  term = 1
  /** A damaged first batch makes the partition expect its producer, whose next ones are then early, not unknown. */
  damageSent = false

  constructor(
    readonly random: SeededRandom,
    public partition: PartitionFixture,
  ) {}

  async step(): Promise<void> {
    const { random, partition } = this
    if (random.oneIn(8)) this.commit()
    else if (random.oneIn(60)) await this.restart()
    else if (random.oneIn(25)) partition.store.checkpoint()
    else if (random.oneIn(12)) this.sendDamaged()
    else this.send()
  }

  /** Everything in the log, or a part of it, is committed. */
  commit(): void {
    const { log } = this.partition
    const index = this.random.oneIn(2) ? log.filled.index : log.flushedIndex + this.random.below(3)
    log.complete('flushed', Math.min(index, log.filled.index))
    this.check()
  }

  /** What is committed is there again, with the sessions; what was pending has been committed first. */
  async restart(): Promise<void> {
    this.partition.log.complete()
    this.check()
    this.sent.length = 0
    this.damageSent = false
    this.term++
    this.partition = await openPartition({ disk: this.partition.store.disk, term: this.term })
    this.stored.push(null)
  }

  sendDamaged(): void {
    const { random, partition } = this
    const whole = batchOf(1 + random.below(3), { producer: [random.below(PRODUCERS), 0, 0, 0] })
    const bytes = mutated(random, whole)
    const { index } = partition.log.filled
    const unchanged = bytes.length === whole.length && bytes.every((byte, at) => byte === whole[at])
    if (unchanged || bytes.length < 80) return
    this.damageSent = true
    const outcome = partition.sendBytes(bytes)
    if (outcome.settledTimes !== 1 || outcome.taken_ !== 1) throw new Error('a damaged batch was not refused at once')
    if (outcome.code === 'OK' || partition.log.filled.index !== index) throw new Error('a damaged batch was accepted')
  }

  send(): void {
    const { random, partition } = this
    const word = random.below(PRODUCERS)
    const known = this.model.get(word)
    const last = known?.batches.at(-1)?.sequence ?? -1
    const epoch =
      (known?.epoch ?? 0) + (random.oneIn(15) ? 1 : 0) - (random.oneIn(25) && (known?.epoch ?? 0) > 0 ? 1 : 0)
    const sequence = this.someSequence(epoch === known?.epoch ? last : -1)
    const count = 1 + random.below(3)
    const bytes = batchOf(count, { producer: [word, 0, 0, 0], epoch, sequence })
    const wanted = this.predict(word, epoch, sequence, count, bytes)
    this.sent.push({ outcome: partition.sendBytes(bytes), ...wanted })
    this.check()
  }

  someSequence(last: number): number {
    const { random } = this
    if (!random.oneIn(3)) return last + 1
    return Math.max(0, last + 2 - random.below(PRODUCER_WINDOW_BATCHES + 6))
  }

  /** What the partition should say; the model moves on as if it did. */
  predict(word: number, epoch: number, sequence: number, count: number, bytes: Uint8Array): Omit<Sent, 'outcome'> {
    const known = this.model.get(word)
    const refused = (wanted: string) => ({ wanted, baseOffset: null, index: 0 })
    if (known === undefined && sequence > 0) return refused('UNKNOWN_PRODUCER')
    if (known !== undefined && epoch < known.epoch) return refused('PRODUCER_FENCED')
    const isNewEpoch = known === undefined || epoch > known.epoch
    const batches = isNewEpoch ? [] : known.batches
    const next = batches.length === 0 ? 0 : batches.at(-1)!.sequence + 1
    if (sequence > next) return refused('OUT_OF_ORDER_SEQUENCE')
    if (sequence === next) {
      const accepted = { sequence, baseOffset: this.nextOffset, index: this.stored.length + 1 }
      this.model.set(word, { epoch, batches: [...batches, accepted] })
      this.nextOffset += count
      this.stored.push(bytes)
      return { wanted: 'OK', ...accepted }
    }
    const original = batches.find((batch) => batch.sequence === sequence)!
    const window = batches.slice(-PRODUCER_WINDOW_BATCHES)
    if (window.includes(original)) return { wanted: 'OK', ...original }
    return { wanted: 'OK', baseOffset: null, index: window[0]!.index }
  }

  /** Compares every answer so far, and what is in the log. */
  check(): void {
    const { log, partition } = this.partition
    for (const { outcome, wanted, baseOffset, index } of this.sent) {
      const isDue = index <= log.flushedIndex
      const isEarly = this.damageSent && wanted === 'UNKNOWN_PRODUCER' && outcome.code === 'OUT_OF_ORDER_SEQUENCE'
      const found = isEarly ? wanted : outcome.code
      if (found !== (isDue ? wanted : 'pending')) throw new Error(`${found} instead of ${isDue ? wanted : 'pending'}`)
      if (found === 'OK' && outcome.baseOffset !== baseOffset)
        throw new Error(`offset ${outcome.baseOffset}, not ${baseOffset}`)
      if (outcome.settledTimes > 1 || outcome.taken_ !== 1) throw new Error('a batch was answered or taken twice')
    }
    if (log.batches.length !== this.stored.length)
      throw new Error(`${log.batches.length} batches, not ${this.stored.length}`)
    const committed = log.batches[log.flushedIndex - 1]
    const highWatermark = committed === undefined ? 0 : endOffsetOf(committed.part.baseOffset, committed.header)
    if (partition.highWatermark !== highWatermark) throw new Error(`high watermark ${partition.highWatermark}`)
  }

  checkBytes(): void {
    this.partition.log.batches.forEach(({ bytes, header }, at) => {
      const stored = this.stored[at] ?? null
      if (header.control !== (stored === null)) throw new Error(`batch ${at} is not what was sent`)
      if (stored !== null && Buffer.compare(bytes.subarray(LOG_PART_BYTES), stored) !== 0)
        throw new Error(`batch ${at} was changed`)
    })
  }
}

/** Tries `iterations` lives of a partition drawn from `seed`. @returns how many. @throws when one shows a bug. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  for (let tried = 0; tried < iterations; tried++) {
    const life = new Run(random, await openPartition())
    for (let step = 0; step < STEPS; step++) await life.step()
    life.commit()
    life.checkBytes()
  }
  return iterations
}
