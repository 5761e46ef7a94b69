// Opens a crash image with the real recovery and compares it with what was given and promised (reliability E4).
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, logPartIsValid, readLogPart } from '@millrace/protocol'
import { type LogRead, type LogStore, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { VOTE_FILES } from '#src/storage/vote-journal.js'
import { VOTE_MARKS } from '#src/storage/vote-record.js'
import { recoverVotes, VOTE_AREAS } from '#src/storage/vote-recovery.js'
import { SeededRandom } from '../random.js'
import { type CrashEnvironment, CrashMemory, crashEnvironment } from './crash-environment.js'
import { CrashFailure } from './crash-failure.js'
import { checkIndexes, checkIndexReads, checkSearches } from './derived-check.js'
import { DiskTrace } from './disk-trace.js'
import { LogDriver, roomFor, turn } from './log-driver.js'
import { type AppendedBatch, LogContent, type LogOperation, type Owed, TracedLog, TracedState } from './log-history.js'
import { batchesByIndex, checkOwed, type RecoveredContent, type RecoveredLogs } from './owed-check.js'
import type { VolumeImage } from './page-image.js'
import { AT_ONCE, TracedVolume } from './traced-volume.js'
import { checkHadLog, checkVote, type FoundVote, TracedVotes } from './vote-history.js'
import { CRASH_LIMITS, IDENTITY, keyName } from './workload.js'

/**
 * A log may read so much to be recovered however long it is: some windows, checkpoints apart, and a look-ahead. Five of the
 * larger slots, since a log leaves the smaller ones for good and a read goes up to the end of a slot.
 */
const MOST_REPLAYED_BYTES = 640 * 1024

export interface Recovered {
  readonly logs: RecoveredLogs
  /** The image as it is now, and how it came to be so. */
  readonly image: VolumeImage
  readonly trace: DiskTrace | null
  readonly votes: ReadonlyMap<number, FoundVote>
  /** Logs that would be missed by their votes. */
  readonly hadLogs: ReadonlySet<number>
  /** What the votes owe from now on, of every log that was asked for. */
  readonly votesAfter: ReadonlyMap<number, TracedVotes>
  /** The logs that went on, as they were followed from there. */
  readonly wentOn: readonly TracedLog[]
}

/** Above what any workload asks of its disk. */
const FIRST_RECOVERY_ID = 1_000_000

/** Many more than what is under way takes to end. */
const TURNS_AFTER_FAILURE = 50

const memory = new CrashMemory(256 * 1024 * 1024, false)
const RECOVERY_SEED = new SeededRandom('recovery')

export interface RecoverOptions {
  /** Notes what recovery does to the disk, so that it can be crashed in its turn. */
  readonly traced?: boolean
  /** Appends so many batches to each log that is there. */
  readonly goOn?: { readonly batches: number; readonly random: SeededRandom }
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
  const trace = options.traced === true ? new DiskTrace(FIRST_RECOVERY_ID) : null
  const volume = new TracedVolume(image.copy(), trace, AT_ONCE)
  try {
    const store = await openLogStore(environment, volume, IDENTITY, CRASH_LIMITS)
    const run = new RecoveryRun(environment, store, volume, owed, logsNotedIn(image), options.rotten === true)
    await run.open()
    await run.check()
    if (options.goOn !== undefined) await run.goOn(options.goOn.batches, options.goOn.random)
    // What goes on in the background has to be over before the memory serves another store.
    await turn()
    const { contents: logs, votes, hadLogs, votesAfter, wentOn } = run
    return { logs, votes, hadLogs, votesAfter, image: volume.image, trace, wentOn }
  } catch (error) {
    for (let turns = 0; turns < TURNS_AFTER_FAILURE; turns++) await turn()
    if (error instanceof CrashFailure) throw error
    const what = error instanceof Error ? (error.stack ?? error.message) : String(error)
    throw new CrashFailure('exception', what, { cause: error })
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
  readonly votes = new Map<number, FoundVote>()
  readonly votesAfter = new Map<number, TracedVotes>()
  private held: ReadonlyMap<number, LogContent> = new Map()
  readonly wentOn: TracedLog[] = []
  private readonly logs: OpenedLog[] = []

  constructor(
    private readonly environment: CrashEnvironment,
    private readonly store: LogStore,
    private readonly volume: TracedVolume,
    private readonly owed: readonly Owed[],
    readonly hadLogs: ReadonlySet<number>,
    private readonly rotten: boolean,
  ) {}

  async open(): Promise<void> {
    const { store } = this
    for (const owed of this.owed) {
      const { topicId, votes } = owed
      const found = store.votes.find({ topicId, partition: 0, lane: 0 })
      this.votes.set(topicId, found)
      checkHadLog(owed, found, this.hadLogs.has(topicId))
      this.votesAfter.set(topicId, TracedVotes.found(votes, checkVote(topicId, votes, found)))
    }
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
      const { owed, log } = opened
      // Whoever commits knows what was committed, and says it again.
      log.noteCommitted(Math.min(owed.committed, log.filled.index))
      await checkBelowStart(`log ${owed.topicId}`, log)
      const { batches, damaged } = await this.readAll(`log ${owed.topicId}`, opened)
      this.contents.set(owed.topicId, {
        committed: owed.committed,
        startOffset: log.startOffset,
        batches,
        end: { ...log.filled },
        damaged: damaged || opened.damage !== null,
      })
    }
    this.held = checkOwed(this.owed, this.contents, this.rotten)
    for (const opened of this.logs) {
      const { topicId } = opened.owed
      const { batches, damaged } = this.contents.get(topicId)!
      if (!damaged) await this.checkDerived(`log ${topicId}`, opened, batches, this.held.get(topicId)!)
    }
  }

  /** Every batch it serves is one that it was given, as it was given, and behind the one before. */
  private async readAll(
    name: string,
    { owed, log }: OpenedLog,
  ): Promise<{ batches: AppendedBatch[]; damaged: boolean }> {
    const candidates = batchesByIndex(owed.history)
    const batches: AppendedBatch[] = []
    const { index: last, nextOffset } = log.filled
    let offset = log.startOffset
    while ((batches.at(-1)?.index ?? 0) < last) {
      let read: LogRead
      try {
        read = await log.read(offset, 128 * 1024, last)
      } catch (cause) {
        if (!(cause instanceof StorageError) || cause.code !== 'DAMAGED') throw cause
        if (this.rotten) return { batches, damaged: true }
        throw new CrashFailure('damage claimed', cause.message)
      }
      const { batchCount } = read
      if (batchCount > 0) recognise(name, candidates, joined(read), batches)
      offset = read.nextOffset
      read.release()
      if (batchCount > 0) continue
      if (offset === nextOffset) break
      if (this.rotten) return { batches, damaged: true }
      throw new CrashFailure('lost', `${name}: reading stops at offset ${offset} of ${nextOffset}`)
    }
    return { batches, damaged: false }
  }

  private async checkDerived(
    name: string,
    { log, state }: OpenedLog,
    batches: readonly AppendedBatch[],
    content: LogContent,
  ): Promise<void> {
    if (log.flushedIndex !== log.filled.index) {
      throw new CrashFailure('not flushed', `${name} is flushed to ${log.flushedIndex} of ${log.filled.index}`)
    }
    if (!state.equals(TracedState.of(content))) {
      const count = content.batches.length
      throw new CrashFailure('wrong state', `${name}: state and replay do not make its ${count} batches`)
    }
    try {
      await checkIndexReads(name, log, content.batches)
      await checkSearches(name, log, batches)
    } catch (cause) {
      // What is rotten may be what the search passes by.
      if (this.rotten && cause instanceof StorageError && cause.code === 'DAMAGED') return
      throw cause
    }
    if (!this.rotten) checkIndexes(name, log, this.volume.image)
  }

  /** Others take the place of what was lost; now and then a suffix is cut off before. */
  async goOn(count: number, random: SeededRandom): Promise<void> {
    if (random.chance(0.5)) await this.voteOn(random)
    for (const { owed, state, log } of this.logs) {
      const driver = this.drive(owed, state, log)
      const { traced, content } = driver
      const free = content.lastIndex - Math.max(owed.committed, content.base.index - 1)
      if (random.chance(0.15)) {
        driver.install(random)
        await driver.truncating
      } else if (free > 0 && random.chance(0.3)) {
        driver.truncate(content.lastIndex - random.integer(1, free))
        await driver.truncating
      }
      const again = LogContent.after(owed.history, owed.given)
      for (let i = 0; i < count; i++) {
        // As long as what was lost, so that groups come to stand where torn ones did; the same bytes could complete them.
        const lostBytes = again.at(content.lastIndex + 1)?.header.decodedBytes ?? 700
        const bytes = driver.draw(random, lostBytes)
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

  private async voteOn(random: SeededRandom): Promise<void> {
    const saves = [...this.votesAfter].map(async ([topicId, votes]) => {
      const given = votes.history.push(votes.draw(random))
      votes.given = given
      await this.store.votes.save({ topicId, partition: 0, lane: 0 }, votes.history[given - 1]!)
      this.volume.trace?.note(() => {
        votes.kept = given
      })
    })
    await Promise.all(saves)
  }

  /** What the log holds now is what it owes from now on. */
  private drive(owed: Owed, state: TracedState, log: PartitionLog): LogDriver {
    const { topicId } = owed
    const traced = new TracedLog({ topicId, partition: 0, lane: 0 }, this.votesAfter.get(topicId))
    const content = new LogContent()
    const { base: start, state: first, batches } = this.held.get(owed.topicId)!
    if (first !== null) traced.history.push({ kind: 'install', start, state: first })
    for (const operation of traced.history) content.apply(operation)
    for (const batch of batches) {
      const operation: LogOperation = { kind: 'append', batch }
      traced.history.push(operation)
      content.apply(operation)
    }
    traced.given = traced.kept = traced.history.length
    // What was committed and not flushed may be gone, and something else comes in its place.
    traced.committed = Math.max(Math.min(owed.committed, content.lastIndex), start.index - 1)
    traced.startOffset = log.startOffset
    const driver = new LogDriver(this.environment, this.volume.trace, traced, content, state, log)
    driver.committed = traced.committed
    return driver
  }
}

/**
 * Topics of which the votes say that there was a log, before recovery has looked which logs there are: what it finds it
 * need not be told of.
 */
function logsNotedIn(image: VolumeImage): ReadonlySet<number> {
  const files = VOTE_FILES.flatMap((name) => image.files.get(name) ?? [])
  const copies = files.map((file) =>
    Array.from({ length: VOTE_AREAS }, (_, area) => {
      const bytes = new Uint8Array(CRASH_LIMITS.voteAreaBytes!)
      file.read(area * bytes.length, bytes)
      return { bytes, view: new DataView(bytes.buffer) }
    }),
  )
  const entries = recoverVotes(copies, IDENTITY)?.entries.values() ?? []
  return new Set([...entries].filter(({ marks }) => !(marks & VOTE_MARKS.withoutLog)).map(({ key }) => key.topicId))
}

/** @throws CrashFailure 'phantom' when a log serves what was given up. */
async function checkBelowStart(name: string, log: PartitionLog): Promise<void> {
  if (log.startOffset === 0) return
  try {
    const read = await log.read(log.startOffset - 1, 1, log.filled.index)
    read.release()
  } catch (cause) {
    if (cause instanceof StorageError && cause.code === 'OUT_OF_RANGE') return
    throw cause
  }
  throw new CrashFailure('phantom', `${name} begins at offset ${log.startOffset}, and serves what is below`)
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
    if (candidates[part.index] === undefined) {
      throw new CrashFailure('phantom', `${name}: nobody gave it a batch ${part.index}`)
    }
    if (batch === undefined || !logPartIsValid(bytes, view, at, crc32)) {
      const { index, term, baseOffset, clientLength } = part
      const what = `batch ${index}, ${clientLength} bytes at offset ${baseOffset} in term ${term}`
      throw new CrashFailure('wrong bytes', `${name}: ${what}, is not what was given`)
    }
    const before = into.at(-1)?.index ?? 0
    if (before >= part.index) throw new CrashFailure('wrong bytes', `${name}: batch ${part.index} is behind ${before}`)
    into.push(batch)
    at = clientAt + part.clientLength
  }
}
