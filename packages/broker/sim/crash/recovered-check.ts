// Opens a crash image with the real recovery and compares it with what was given and promised (reliability E4).
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, logPartIsValid, readBatchHeader, readLogPart } from '@millrace/protocol'
import type { LogRead, LogStore, PartitionLog } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { SeededRandom } from '../random.js'
import { type CrashEnvironment, CrashMemory, crashEnvironment } from './crash-environment.js'
import { DiskTrace } from './disk-trace.js'
import type { VolumeImage } from './page-image.js'
import { AT_ONCE, TracedVolume } from './traced-volume.js'
import { type AppendedBatch, CRASH_LIMITS, drawBatch, IDENTITY, keyName, SumState, turn } from './workload.js'

export type CrashInvariant =
  | 'lost'
  | 'phantom'
  | 'wrong bytes'
  | 'wrong state'
  | 'damage claimed'
  | 'not idempotent'
  | 'not flushed'
  | 'exception'

export class CrashFailure extends Error {
  override readonly name = 'CrashFailure'
  constructor(
    readonly invariant: CrashInvariant,
    message: string,
  ) {
    super(message)
  }
}

/** What a log owes at the moment of a crash. */
export interface Owed {
  readonly topicId: number
  /** Every batch it was ever given; of those behind `given` nobody may see anything. */
  readonly batches: readonly AppendedBatch[]
  readonly given: number
  /** This many have to be there. */
  readonly kept: number
  /** It may be gone altogether. */
  readonly dropAsked: boolean
  /** It has to be gone. */
  readonly dropped: boolean
}

export interface Recovered {
  /** Batches of each log. */
  readonly counts: ReadonlyMap<number, number>
  /** The image as it is now, and how it came to be so. */
  readonly image: VolumeImage
  readonly trace: DiskTrace | null
  readonly torn: number
}

const memory = new CrashMemory(256 * 1024 * 1024, false)
const RECOVERY_SEED = new SeededRandom('recovery')

export interface RecoverOptions {
  /** Notes what recovery does to the disk, so that it can be crashed in its turn. */
  readonly traced?: boolean
  /**
   * Appends so many batches to each log that is there, flushed, and adds them to what it owes: first what was lost, as
   * clients send it again, then others.
   */
  readonly goOn?: number
}

/** @throws CrashFailure when an invariant is broken. */
export async function recoverAndCheck(
  image: VolumeImage,
  owed: readonly Owed[],
  options: RecoverOptions = {},
): Promise<{ readonly recovered: Recovered; readonly owed: readonly Owed[] }> {
  memory.reset()
  const environment = crashEnvironment(RECOVERY_SEED, memory)
  const trace = options.traced === true ? new DiskTrace() : null
  const volume = new TracedVolume(image.copy(), trace, AT_ONCE)
  try {
    const store = await openLogStore(environment, volume, IDENTITY, CRASH_LIMITS)
    const run = new RecoveryRun(environment, store, owed)
    await run.check()
    const nowOwed = await run.goOn(options.goOn ?? 0)
    await turn()
    const { torn } = store.recovery
    return { recovered: { counts: run.counts, image: volume.image, trace, torn: torn.length }, owed: nowOwed }
  } catch (error) {
    if (error instanceof CrashFailure) throw error
    throw new CrashFailure('exception', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
}

interface CheckedLog {
  readonly owed: Owed
  readonly state: SumState
  readonly log: PartitionLog
}

class RecoveryRun {
  readonly counts = new Map<number, number>()
  private readonly logs: CheckedLog[] = []

  constructor(
    private readonly environment: CrashEnvironment,
    private readonly store: LogStore,
    private readonly owed: readonly Owed[],
  ) {}

  async check(): Promise<void> {
    const found = new Set(this.store.found.map(keyName))
    for (const name of found) {
      const owed = this.owed.find(({ topicId }) => name === `${topicId}/0`)
      if (owed === undefined || owed.dropped) throw new CrashFailure('phantom', `log ${name} came from nowhere`)
    }
    for (const owed of this.owed) {
      const isThere = found.has(`${owed.topicId}/0`)
      if (!isThere && owed.dropAsked) continue
      if (!isThere && owed.kept > 0) throw new CrashFailure('lost', `log ${owed.topicId} is gone`)
      if (isThere) await this.checkLog(owed)
    }
    for (const { key, position, reason } of this.store.recovery.damaged) {
      throw new CrashFailure('damage claimed', `log ${key.topicId} at ${position}: ${reason}`)
    }
  }

  private async checkLog(owed: Owed): Promise<void> {
    const state = new SumState()
    const key = { topicId: owed.topicId, partition: 0, lane: 0 }
    const log = await this.store.open(key, state)
    const { index, nextOffset } = log.filled
    this.counts.set(owed.topicId, index)
    const damage = this.store.recovery.damaged.find((entry) => entry.key.topicId === owed.topicId)
    const name = `log ${owed.topicId}`
    if (index < owed.kept) {
      const why = damage === undefined ? '' : `, damaged: ${damage.reason}`
      throw new CrashFailure('lost', `${name} ends at batch ${index} of ${owed.kept} promised${why}`)
    }
    if (index > owed.given) throw new CrashFailure('phantom', `${name} has ${index} batches, ${owed.given} were given`)
    if (log.flushedIndex !== index && damage === undefined) {
      throw new CrashFailure('not flushed', `${name} is flushed to ${log.flushedIndex} of ${index}`)
    }
    const expectedOffset = owed.batches[index - 1]?.endOffset ?? 0
    if (nextOffset !== expectedOffset) throw new CrashFailure('wrong state', `${name} goes on at offset ${nextOffset}`)
    checkState(name, owed, index, state)
    await checkBytes(name, owed, index, log)
    await checkSearch(name, owed, index, log)
    this.logs.push({ owed, state, log })
  }

  async goOn(count: number): Promise<readonly Owed[]> {
    const owed = new Map(this.owed.map((one) => [one.topicId, one]))
    for (const one of this.owed) {
      const index = this.counts.get(one.topicId) ?? 0
      owed.set(one.topicId, { ...one, batches: one.batches.slice(0, index), given: index, kept: index })
    }
    for (const { owed: one, state, log } of count > 0 ? this.logs : []) {
      const batches = one.batches.slice(0, log.filled.index)
      for (let i = 0; i < count; i++) {
        for (let turns = 0; !log.hasRoom(32 * 1024); turns++) {
          if (turns > 1000) throw new CrashFailure('exception', `log ${one.topicId} never has room`)
          await turn()
        }
        batches.push(this.append(log, state, one, batches.length))
        if (i % 2 === 1) await turn()
      }
      await log.flush()
      owed.set(one.topicId, { ...one, batches, given: batches.length, kept: batches.length })
    }
    return [...owed.values()]
  }

  private append(log: PartitionLog, state: SumState, owed: Owed, sequence: number): AppendedBatch {
    const { topicId } = owed
    const key = { topicId, partition: 0, lane: 0 }
    const lost = owed.batches[sequence]?.bytes
    const bytes = lost ?? drawBatch(new SeededRandom(`go on ${topicId} ${sequence}`), key, sequence, 700)
    const source = this.environment.memory.allocate(bytes.length)
    if (source === null) throw new Error('no memory to go on with')
    source.bytes.set(bytes)
    const header = readBatchHeader(source.view, 0)
    const { index, nextOffset, term: lastTerm } = log.filled
    const term = Math.max(1, lastTerm)
    const stamp = { term, baseOffset: nextOffset, index: index + 1, appendTime: 9 }
    if (!log.append(source, 0, header, stamp, 'flush')) throw new Error('a good batch was refused')
    state.add(stamp.index, header.checksum)
    this.environment.memory.release(source)
    const endOffset = nextOffset + header.lastOffsetDelta + 1
    return { bytes, baseOffset: nextOffset, endOffset, term, lastTimestamp: header.lastTimestamp }
  }
}

function checkState(name: string, owed: Owed, index: number, state: SumState): void {
  const expected = new SumState()
  for (let i = 0; i < index; i++) {
    const { bytes } = owed.batches[i]!
    expected.add(i + 1, new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, true))
  }
  if (state.index !== index || state.sum !== expected.sum) {
    throw new CrashFailure('wrong state', `${name}: state and replay do not make its ${index} batches`)
  }
}

async function checkBytes(name: string, owed: Owed, index: number, log: PartitionLog): Promise<void> {
  let next = 0
  while (next < index) {
    const read = await log.read(owed.batches[next]!.baseOffset, 40_000, index)
    if (read.batchCount === 0) throw new CrashFailure('lost', `${name}: reading stops before batch ${next + 1}`)
    next = compare(name, owed, next, joined(read))
    read.release()
  }
}

function joined(read: LogRead): Uint8Array {
  return Buffer.concat(read.pieces.map(({ block, offset, length }) => block.bytes.subarray(offset, offset + length)))
}

function compare(name: string, owed: Owed, first: number, bytes: Uint8Array): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let next = first
  for (let at = 0; at < bytes.length; next++) {
    const expected = owed.batches[next]
    const part = readLogPart(view, at)
    const end = at + LOG_PART_BYTES + part.clientLength
    const same =
      expected !== undefined &&
      logPartIsValid(bytes, view, at, crc32) &&
      part.index === next + 1 &&
      part.baseOffset === expected.baseOffset &&
      part.term === expected.term &&
      Buffer.compare(bytes.subarray(at + LOG_PART_BYTES, end), expected.bytes) === 0
    if (!same) throw new CrashFailure('wrong bytes', `${name}: batch ${next + 1} is not what was given`)
    at = end
  }
  return next
}

/** The indexes agree with the log: the time and the term of a batch in its middle. */
async function checkSearch(name: string, owed: Owed, index: number, log: PartitionLog): Promise<void> {
  if (index === 0) return
  const batch = owed.batches[index >> 1]!
  const found = await log.offsetForTime(batch.lastTimestamp, index)
  const expected = owed.batches.findIndex(({ lastTimestamp }) => lastTimestamp >= batch.lastTimestamp)
  const { baseOffset, endOffset } = owed.batches[expected]!
  if (found === null || found.offset < baseOffset || found.offset >= endOffset) {
    throw new CrashFailure('wrong state', `${name}: time ${batch.lastTimestamp} is found at ${found?.offset}`)
  }
  if (index >> 1 < index && (await log.termAt(batch.baseOffset)) !== batch.term) {
    throw new CrashFailure('wrong state', `${name}: the term at offset ${batch.baseOffset} is not ${batch.term}`)
  }
}
