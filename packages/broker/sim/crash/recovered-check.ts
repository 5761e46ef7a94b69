// Opens a crash image with the real recovery and compares it with what was given and promised (reliability E4).
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, logPartIsValid, readLogPart } from '@millrace/protocol'
import { type LogRead, type LogStore, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { SeededRandom } from '../random.js'
import { type CrashEnvironment, CrashMemory, crashEnvironment } from './crash-environment.js'
import { CrashFailure } from './crash-failure.js'
import { checkIndexes, checkSearches } from './derived-check.js'
import { DiskTrace } from './disk-trace.js'
import { LogDriver, roomFor, turn } from './log-driver.js'
import { type AppendedBatch, LogContent, type LogOperation, type Owed, TracedLog, TracedState } from './log-history.js'
import type { VolumeImage } from './page-image.js'
import { AT_ONCE, TracedVolume } from './traced-volume.js'
import { CRASH_LIMITS, IDENTITY, keyName } from './workload.js'

/** A log may read so much to be recovered however long it is: some windows, checkpoints apart, and a look-ahead. */
const MOST_REPLAYED_BYTES = 448 * 1024

/** What a recovered log turned out to hold. */
export interface RecoveredContent {
  readonly batches: readonly AppendedBatch[]
  readonly damaged: boolean
}

/** By topic id; a log that is not there is missing. */
export type RecoveredLogs = ReadonlyMap<number, RecoveredContent>

export interface Recovered {
  readonly logs: RecoveredLogs
  /** The image as it is now, and how it came to be so. */
  readonly image: VolumeImage
  readonly trace: DiskTrace | null
  /** The logs that went on, as they were followed from there. */
  readonly wentOn: readonly TracedLog[]
}

/** Many more than what is under way takes to end. */
const TURNS_AFTER_FAILURE = 50

const memory = new CrashMemory(256 * 1024 * 1024, false)
const RECOVERY_SEED = new SeededRandom('recovery')

export interface RecoverOptions {
  /** Notes what recovery does to the disk, so that it can be crashed in its turn. */
  readonly traced?: boolean
  /** Appends so many batches to each log that is there: first what was lost, as clients send it again, then others. */
  readonly goOn?: number
  /** Something that was durable has been spoilt besides: logs may be damaged, if they say so. */
  readonly rotten?: boolean
}

/** @throws CrashFailure when an invariant is broken. */
export async function recoverAndCheck(
  image: VolumeImage,
  owed: readonly Owed[],
  options: RecoverOptions = {},
): Promise<Recovered> {
  memory.reset()
  const environment = crashEnvironment(RECOVERY_SEED, memory)
  const trace = options.traced === true ? new DiskTrace() : null
  const volume = new TracedVolume(image.copy(), trace, AT_ONCE)
  try {
    const store = await openLogStore(environment, volume, IDENTITY, CRASH_LIMITS)
    const run = new RecoveryRun(environment, store, volume, owed, options.rotten === true)
    await run.open()
    await run.check()
    if (options.goOn !== undefined) await run.goOn(options.goOn)
    // What goes on in the background has to be over before the memory serves another store.
    await turn()
    return { logs: run.contents, image: volume.image, trace, wentOn: run.wentOn }
  } catch (error) {
    for (let turns = 0; turns < TURNS_AFTER_FAILURE; turns++) await turn()
    if (error instanceof CrashFailure) throw error
    throw new CrashFailure('exception', error instanceof Error ? (error.stack ?? error.message) : String(error))
  }
}

interface OpenedLog {
  readonly owed: Owed
  readonly state: TracedState
  readonly log: PartitionLog
  readonly damage: string | null
}

class RecoveryRun {
  readonly contents = new Map<number, RecoveredContent>()
  readonly wentOn: TracedLog[] = []
  private readonly logs: OpenedLog[] = []

  constructor(
    private readonly environment: CrashEnvironment,
    private readonly store: LogStore,
    private readonly volume: TracedVolume,
    private readonly owed: readonly Owed[],
    private readonly rotten: boolean,
  ) {}

  async open(): Promise<void> {
    const { store } = this
    const found = new Map(store.found.map((key) => [key.topicId, key]))
    for (const [topicId, key] of found) {
      const owed = this.owed.find((one) => one.topicId === topicId)
      if (owed === undefined) throw new CrashFailure('phantom', `log ${keyName(key)} came from nowhere`)
      const state = new TracedState()
      const log = await store.open(key, state)
      const damage = store.recovery.damaged.find((entry) => entry.key.topicId === topicId)
      if (damage !== undefined && !this.rotten) {
        throw new CrashFailure('damage claimed', `log ${topicId} at ${damage.position}: ${damage.reason}`)
      }
      this.logs.push({ owed, state, log, damage: damage?.reason ?? null })
    }
    const { replayedBytes } = store.recovery
    if (replayedBytes <= this.logs.length * MOST_REPLAYED_BYTES) return
    throw new CrashFailure('reads too much', `${replayedBytes} bytes were read to recover ${this.logs.length} logs`)
  }

  async check(): Promise<void> {
    for (const opened of this.logs) {
      const { owed } = opened
      const name = `log ${owed.topicId}`
      const { batches, damaged } = await this.readAll(name, opened)
      this.contents.set(owed.topicId, { batches, damaged: damaged || opened.damage !== null })
    }
    checkOwed(this.owed, this.contents, this.rotten)
    for (const opened of this.logs) {
      const content = this.contents.get(opened.owed.topicId)!
      if (!content.damaged) await this.checkDerived(`log ${opened.owed.topicId}`, opened, content.batches)
    }
  }

  /** Every batch it serves is one that it was given, as it was given. */
  private async readAll(name: string, { owed, log }: OpenedLog): Promise<RecoveredContent> {
    const candidates = batchesByIndex(owed.history)
    const batches: AppendedBatch[] = []
    const { index: last, nextOffset } = log.filled
    for (let offset = log.startOffset; offset < nextOffset; ) {
      let read: LogRead
      try {
        read = await log.read(offset, 128 * 1024, last)
      } catch (cause) {
        if (this.rotten && cause instanceof StorageError && cause.code === 'DAMAGED') return { batches, damaged: true }
        throw cause
      }
      if (read.batchCount === 0) throw new CrashFailure('lost', `${name}: reading stops at offset ${offset}`)
      recognise(name, candidates, joined(read), batches)
      offset = read.nextOffset
      read.release()
    }
    const end = batches.at(-1)
    if ((end?.index ?? 0) !== last || (end?.endOffset ?? 0) !== nextOffset) {
      throw new CrashFailure('wrong state', `${name} says it ends at batch ${last}, and serves ${end?.index ?? 0}`)
    }
    return { batches, damaged: false }
  }

  private async checkDerived(name: string, opened: OpenedLog, batches: readonly AppendedBatch[]): Promise<void> {
    const { log, state } = opened
    if (log.flushedIndex !== log.filled.index) {
      throw new CrashFailure('not flushed', `${name} is flushed to ${log.flushedIndex} of ${log.filled.index}`)
    }
    if (!state.equals(TracedState.of(batches))) {
      throw new CrashFailure('wrong state', `${name}: state and replay do not make its ${batches.length} batches`)
    }
    await checkSearches(name, log, batches)
    checkIndexes(name, log, this.volume.image)
  }

  async goOn(count: number): Promise<void> {
    for (const { owed, state, log } of this.logs) {
      const key = { topicId: owed.topicId, partition: 0, lane: 0 }
      const traced = new TracedLog(key)
      const content = new LogContent()
      for (const batch of this.contents.get(owed.topicId)!.batches) {
        const operation: LogOperation = { kind: 'append', batch }
        traced.history.push(operation)
        content.apply(operation)
      }
      traced.given = traced.kept = traced.history.length
      const driver = new LogDriver(this.environment, this.volume.trace, traced, content, state, log)
      const random = new SeededRandom(`go on ${owed.topicId}`)
      for (let i = 0; i < count; i++) {
        const lost = owed.history[traced.history.length]?.batch.bytes
        const bytes = lost ?? driver.draw(random, 700)
        for (let turns = 0; !log.hasRoom(roomFor(bytes)); turns++) {
          if (turns > 1000) throw new CrashFailure('exception', `log ${owed.topicId} never has room`)
          await turn()
        }
        driver.append(bytes, Math.max(1, log.filled.term), 'flush')
        if (i % 2 === 1) await turn()
      }
      await log.flush()
      this.wentOn.push(traced)
    }
  }
}

/** Batches by the index they were given, of each history once: thousands of states ask for the same ones. */
const byIndex = new WeakMap<readonly LogOperation[], AppendedBatch[][]>()

function batchesByIndex(history: readonly LogOperation[]): readonly (readonly AppendedBatch[])[] {
  let batches = byIndex.get(history)
  if (batches === undefined) {
    batches = []
    for (const { batch } of history) {
      batches[batch.index] ??= []
      batches[batch.index]!.push(batch)
    }
    byIndex.set(history, batches)
  }
  return batches
}

function joined({ pieces }: LogRead): Uint8Array {
  const parts = pieces.map(({ block, offset, length }) => block.bytes.subarray(offset, offset + length))
  return parts.length === 1 ? parts[0]! : Buffer.concat(parts)
}

function recognise(
  name: string,
  candidates: readonly (readonly AppendedBatch[])[],
  bytes: Uint8Array,
  into: AppendedBatch[],
): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  for (let at = 0; at < bytes.length; ) {
    const part = readLogPart(view, at)
    const clientAt = at + LOG_PART_BYTES
    const client = bytes.subarray(clientAt, clientAt + part.clientLength)
    const batch = candidates[part.index]?.find(
      ({ term, baseOffset, appendTime, bytes: given }) =>
        term === part.term &&
        baseOffset === part.baseOffset &&
        appendTime === part.appendTime &&
        Buffer.compare(client, given) === 0,
    )
    if (batch === undefined || !logPartIsValid(bytes, view, at, crc32)) {
      throw new CrashFailure('wrong bytes', `${name}: batch ${part.index} is not what was given`)
    }
    into.push(batch)
    at = clientAt + part.clientLength
  }
}

/**
 * Each log holds what some first part of its history made of it: no less than was promised, no more than was given.
 * @param rotten something durable was spoilt besides: less may be there when the log says that it is damaged, or when
 * nothing on the disk can know better.
 * @throws CrashFailure.
 */
export function checkOwed(owed: readonly Owed[], logs: RecoveredLogs, rotten = false): void {
  for (const one of owed) {
    const name = `log ${one.topicId}`
    const content = logs.get(one.topicId)
    if (content !== undefined && one.dropped) throw new CrashFailure('phantom', `${name} was dropped, and is there`)
    if (content !== undefined) checkContent(name, one, content, rotten)
    else if (one.kept > 0 && !one.dropAsked) {
      throw new CrashFailure(rotten ? 'damage hidden' : 'lost', `${name} is gone`)
    }
  }
}

function checkContent(name: string, owed: Owed, { batches, damaged }: RecoveredContent, rotten: boolean): void {
  const content = LogContent.after(owed.history, owed.kept)
  for (let count = owed.kept; ; count++) {
    if (isSame(batches, content.batches)) return
    if (count === owed.given) break
    content.apply(owed.history[count]!)
  }
  const promised = LogContent.after(owed.history, owed.kept).batches
  const isShort = batches.length < promised.length && batches.every((batch, i) => batch === promised[i])
  if (!isShort) throw new CrashFailure('phantom', `${name} has ${batches.length} batches that it never had together`)
  if (rotten && (damaged || !isProvenFlushed(owed, promised[batches.length]!))) return
  const what = rotten ? 'damage hidden' : 'lost'
  throw new CrashFailure(what, `${name} ends at batch ${batches.length} of ${promised.length} promised`)
}

/** Whether something that was given once the batch was flushed is flushed too: its group says that the batch was. */
function isProvenFlushed({ history, kept, givenWhenFlushed }: Owed, lost: AppendedBatch): boolean {
  const at = history.findIndex(({ batch }) => batch === lost)
  return kept > (givenWhenFlushed[at] ?? Number.POSITIVE_INFINITY)
}

function isSame(some: readonly AppendedBatch[], others: readonly AppendedBatch[]): boolean {
  if (some.length !== others.length) return false
  for (let i = some.length - 1; i >= 0; i--) if (some[i] !== others[i]) return false
  return true
}
