// Damage to what a log is found by: checkpoints, sparse indexes, headers of slots, and the batches themselves. A log opens
// or is refused with a reason, and never lies: every record it serves is what was written at that offset, nothing between
// two of them is passed over in silence, and times lead where they did. The loss of one hint alone changes nothing at all.
import { crc32 } from 'node:zlib'
import { loggedBatches, ProtocolError } from '@millrace/protocol'
import { DiskError } from '#src/environment.js'
import { GROUP_KINDS, readEnvelope } from '#src/storage/group-envelope.js'
import { ForeignSlotError, type PartitionLog, StorageError } from '#src/storage/log-store.js'
import { openLogStore } from '#src/storage/open-log-store.js'
import { readSlotHeader } from '#src/storage/slot-header.js'
import { padded, SLOT_DATA_START } from '#src/storage/slot-layout.js'
import { CrashMemory, crashEnvironment } from '../sim/crash/crash-environment.js'
import { CrashFailure } from '../sim/crash/crash-failure.js'
import { turn } from '../sim/crash/log-driver.js'
import { type AppendedBatch, LogContent, type Owed, type TracedLog, TracedState } from '../sim/crash/log-history.js'
import { batchesByIndex } from '../sim/crash/owed-check.js'
import { PAGE_BYTES, type PageFile, type VolumeImage, ZERO_PAGE } from '../sim/crash/page-image.js'
import { recoverAndCheck } from '../sim/crash/recovered-check.js'
import { AT_ONCE, TracedVolume } from '../sim/crash/traced-volume.js'
import { CRASH_LIMITS, IDENTITY, keyName, type Step, Workload } from '../sim/crash/workload.js'
import { SeededRandom } from '../sim/random.js'

export const name = 'index-rebuilding'

const IMAGES_PER_SAMPLE = 40
const READS_PER_LOG = 12

/** Something that was written to a slot: a header or a group. */
interface Written {
  readonly kind: 'header' | 'batches' | 'checkpoint' | 'index'
  readonly file: string
  readonly firstPage: number
  readonly pages: number
  /** Of a group in the log of a topic; of a header that of the checkpoint which it names, or 0. */
  readonly topicId: number
  readonly position: number
}

interface Sample {
  readonly image: VolumeImage
  readonly owed: readonly Owed[]
  readonly written: readonly Written[]
  /** What stood in a page before its last write, where there was something; by file and page. */
  readonly earlier: ReadonlyMap<string, Uint8Array>
}

const memory = new CrashMemory(256 * 1024 * 1024, false)

/** Damages one image after another and opens each. Returns how many were tried; throws on a finding. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(`index-rebuilding/${seed}`)
  let sample = await drawSample(random.split('0'))
  for (let i = 0; i < iterations; i++) {
    if (i % IMAGES_PER_SAMPLE === IMAGES_PER_SAMPLE - 1) sample = await drawSample(random.split(String(i)))
    if (random.chance(0.3)) await loseOneHint(sample, random)
    else await damageAnything(sample, random)
  }
  return iterations
}

/** Hints are made again: nothing is missing, nothing is called damaged, every index is what the groups say. */
async function loseOneHint({ image, owed, written }: Sample, random: SeededRandom): Promise<void> {
  const hints = written.filter((one) => one.kind === 'header' || isBehindUs(one, written))
  const spoilt = image.copy()
  const hint = random.pick(hints)
  spoil(spoilt.files.get(hint.file)!, random.integer(hint.firstPage, hint.firstPage + hint.pages - 1), random)
  try {
    await recoverAndCheck(spoilt, owed)
  } catch (error) {
    if (!(error instanceof CrashFailure)) throw error
    throw new Error(`without the ${hint.kind} in ${hint.file} at page ${hint.firstPage}: ${error.message}`, {
      cause: error,
    })
  }
}

/** An index that recovery does not walk by: a header names a checkpoint of its log behind it. */
function isBehindUs({ kind, topicId, position }: Written, written: readonly Written[]): boolean {
  if (kind !== 'index') return false
  return written.some((one) => one.kind === 'header' && one.topicId === topicId && one.position > position)
}

/** Less may be there, since what proves that something was flushed may be lost too; what is there has to be true. */
async function damageAnything(sample: Sample, random: SeededRandom): Promise<void> {
  const image = sample.image.copy()
  for (let damages = random.integer(1, 4); damages > 0; damages--) damage(image, sample, random)
  const owed = sample.owed.map((one) => ({ ...one, kept: 0, startOffset: 0, dropAsked: true }))
  try {
    await recoverAndCheck(image, owed, { rotten: true })
  } catch (error) {
    if (error instanceof CrashFailure && isTyped(error.cause)) return
    throw error
  }
  await readFromAnywhere(image, sample.owed, random)
}

// -------------------------------------------------------------- what is damaged

async function drawSample(random: SeededRandom): Promise<Sample> {
  const logs = random.integer(1, 2)
  const { image, trace, logs: traced } = await new Workload(random).run(logs, drawSteps(random, logs))
  for (const event of trace.events) if (event.kind === 'note') event.apply()
  const earlier = new Map<string, Uint8Array>()
  const latest = new Map<string, Uint8Array>()
  for (const event of trace.events) {
    if (event.kind !== 'complete' || event.operation.kind !== 'write') continue
    const { file, position, bytes } = event.operation
    for (let at = 0; at < bytes.length; at += PAGE_BYTES) {
      const page = pageKey(file, (position + at) / PAGE_BYTES)
      earlier.set(page, latest.get(page) ?? ZERO_PAGE)
      latest.set(page, bytes.slice(at, at + PAGE_BYTES))
    }
  }
  const kept = image.copy()
  return { image: kept, owed: [...traced.values()].map(owedBy), written: writtenIn(kept), earlier }
}

const pageKey = (file: string, page: number): string => `${file}/${page}`

/** Some rolls and checkpoints, with beginnings given up and suffixes cut off; everything is flushed in the end. */
function drawSteps(random: SeededRandom, logs: number): Step[] {
  const steps: Step[] = []
  const largest = random.pick([500, 6000, 20_000])
  const [expires, truncates] = [random.pick([0, 0, 0.15]), random.pick([0, 0, 0.1])]
  for (let i = random.integer(10, 40); i > 0; i--) {
    const log = random.integer(0, logs - 1)
    const bytes = Math.floor(random.logBetween(100, largest))
    steps.push({ kind: 'append', log, bytes, mode: random.pick(['flush', 'write']) })
    if (random.chance(0.3)) steps.push({ kind: 'settle', log })
    if (random.chance(expires)) {
      steps.push({ kind: 'expire', log, bytes: random.pick([1, 64 * 1024]) }, { kind: 'flush', log })
      steps.push({ kind: 'commit', log, share: 1 }, { kind: 'settle', log }, { kind: 'settle', log })
    } else if (random.chance(truncates)) steps.push({ kind: 'truncate', log, share: random.fraction() })
  }
  for (let log = 0; log < logs; log++) {
    steps.push({ kind: 'append', log, bytes: 100, mode: 'flush' }, { kind: 'flush', log }, { kind: 'settle', log })
  }
  if (random.chance(0.5)) steps.push({ kind: 'close' })
  return steps
}

/** Everything, as it stood when the workload ended. */
function owedBy(log: TracedLog): Owed {
  const { key, history, givenWhenFlushed, committed, startOffset, votes, dropAsked, dropped } = log
  const { length } = history
  const kept = { history, given: length, kept: length, givenWhenFlushed, committed, startOffset }
  return { topicId: key.topicId, ...kept, votes: { ...votes }, dropAsked, dropped }
}

/** The headers and the groups of an image, left over ones included. */
function writtenIn(image: VolumeImage): Written[] {
  const written: Written[] = []
  for (const [file, pages] of image.files) {
    for (let page = 0; page < SLOT_DATA_START / PAGE_BYTES; page++) {
      const read = readSlotHeader(...viewed(pages.page(page)), 0, crc32)
      if (read.kind !== 'header') continue
      const { owner } = read.header
      const named = { topicId: owner?.key.topicId ?? 0, position: owner?.checkpointPosition ?? 0 }
      written.push({ kind: 'header', file, firstPage: page, pages: 1, ...named })
    }
    for (let page = SLOT_DATA_START / PAGE_BYTES; page < pages.pages.length; ) {
      const envelope = readEnvelope(...viewed(pages.page(page)), 0, crc32)
      const count = envelope === null ? 1 : padded(envelope.length) / PAGE_BYTES
      if (envelope !== null) {
        const { kind, position, key } = envelope
        written.push({ kind: KIND_NAMES[kind], file, firstPage: page, pages: count, topicId: key.topicId, position })
      }
      page += count
    }
  }
  return written
}

const KIND_NAMES = {
  [GROUP_KINDS.batches]: 'batches',
  [GROUP_KINDS.checkpoint]: 'checkpoint',
  [GROUP_KINDS.index]: 'index',
  [GROUP_KINDS.beginning]: 'checkpoint',
} as const

const viewed = (page: Uint8Array): [Uint8Array, DataView] => [
  page,
  new DataView(page.buffer, page.byteOffset, page.byteLength),
]

function damage(image: VolumeImage, { written, earlier }: Sample, random: SeededRandom): void {
  const kind = random.pick(['header', 'batches', 'checkpoint', 'index'] as const)
  const ofKind = written.filter((one) => one.kind === kind)
  if (ofKind.length === 0) return
  const { file, firstPage, pages } = random.pick(ofKind)
  const target = image.files.get(file)!
  const page = random.integer(firstPage, firstPage + pages - 1)
  switch (random.integer(0, 4)) {
    case 0:
      // A write that was lost, whole or in part.
      for (let at = random.chance(0.5) ? firstPage : page; at < firstPage + pages; at++) {
        target.setPage(at, earlier.get(pageKey(file, at)) ?? ZERO_PAGE)
      }
      return
    case 1: {
      // A write that went somewhere else.
      const other = random.pick(ofKind)
      const from = image.files.get(other.file)!
      for (let at = 0; at < pages; at++) target.setPage(firstPage + at, from.page(other.firstPage + at))
      return
    }
    case 2:
      for (let at = firstPage; at < firstPage + pages; at++) target.setPage(at, ZERO_PAGE)
      return
    default:
      spoil(target, page, random)
  }
}

/** Bits that turned over, a sector of nonsense, or zeros. */
function spoil(file: PageFile, number: number, random: SeededRandom): void {
  const page = Uint8Array.from(file.page(number))
  const draw = random.integer(0, 2)
  const sector = page.subarray(random.integer(0, 7) * 512).subarray(0, 512)
  if (draw === 0) page[random.integer(0, random.pick([99, 300, PAGE_BYTES - 1]))]! ^= 1 << random.integer(0, 7)
  else if (draw === 1) random.fill(sector)
  else page.fill(0)
  file.setPage(number, page)
}

// -------------------------------------------------------------- what is served

/** Reads, times and terms from anywhere: where reading from the start ends at damage, others begin behind it. */
async function readFromAnywhere(image: VolumeImage, owed: readonly Owed[], random: SeededRandom): Promise<void> {
  memory.reset()
  const environment = crashEnvironment(new SeededRandom('fuzz'), memory)
  const store = await openLogStore(environment, new TracedVolume(image, null, AT_ONCE), IDENTITY, CRASH_LIMITS)
  for (const key of store.found) {
    const one = owed.find(({ topicId }) => topicId === key.topicId)
    if (one === undefined) throw new Error(`${keyName(key)} came from nowhere`)
    const log = await store.open(key, new TracedState())
    const damaged = store.recovery.damaged.some((entry) => entry.key.topicId === key.topicId)
    log.noteCommitted(Math.min(one.committed, log.filled.index))
    for (let reads = READS_PER_LOG; reads > 0; reads--) await ask(log, one, damaged, random)
  }
  await turn()
}

async function ask(log: PartitionLog, owed: Owed, damaged: boolean, random: SeededRandom): Promise<void> {
  const { startOffset, filled } = log
  if (filled.nextOffset <= startOffset) return
  const offset = random.integer(startOffset, filled.nextOffset - 1)
  await readOnFrom(log, owed, offset, random)
  await orRefused(async () => {
    const term = await log.termAt(offset)
    // It does not hold it, as it has said.
    if (term === 0 && damaged) return
    const terms = batchesOf(owed).filter((batch) => batch.baseOffset <= offset && offset < batch.endOffset)
    if (!terms.some((batch) => batch.term === term)) throw new Error(`no batch at offset ${offset} had term ${term}`)
  })
  await orRefused(() => searchTime(log, owed, random))
}

/** The record asked for comes first, and every one behind it in turn, up to the first refusal. */
async function readOnFrom(log: PartitionLog, owed: Owed, from: number, random: SeededRandom): Promise<void> {
  const candidates = batchesByIndex(owed.history)
  let expected = from
  let first = true
  while (expected < log.filled.nextOffset) {
    const bytes = await readBytes(log, expected, random)
    if (bytes === null) return
    if (bytes.length === 0) throw new Error(`${keyName(log.key)} serves nothing at offset ${expected}`)
    for (const { clientStart, end, ...part } of loggedBatches(bytes, (piece, seed) => crc32(piece, seed))) {
      const client = bytes.subarray(clientStart, end)
      const batch = candidates[part.index]?.find(
        (given) =>
          given.baseOffset === part.baseOffset && given.term === part.term && Buffer.compare(given.bytes, client) === 0,
      )
      if (batch === undefined) throw new Error(`${keyName(log.key)} serves a batch ${part.index} nobody gave it there`)
      // Control batches take no offset, and are not asked for.
      const isNext = first ? batch.baseOffset <= expected && expected < batch.endOffset : batch.baseOffset === expected
      if (!isNext) {
        throw new Error(`${keyName(log.key)} serves batch ${part.index} where offset ${expected} comes next`)
      }
      first = false
      expected = batch.endOffset
    }
  }
}

/** Null when the log says why it does not serve them. */
async function readBytes(log: PartitionLog, offset: number, random: SeededRandom): Promise<Uint8Array | null> {
  try {
    const read = await log.read(offset, random.pick([1, 5000, 60_000]), log.filled.index)
    const bytes = Buffer.concat(
      read.pieces.map(({ block, offset: at, length }) => block.bytes.subarray(at, at + length)),
    )
    read.release()
    return bytes
  } catch (error) {
    if (!isTyped(error)) throw error
    return null
  }
}

/** A time leads to the first batch with a record as late, as the log stood after some part of its history. */
async function searchTime(log: PartitionLog, owed: Owed, random: SeededRandom): Promise<void> {
  const wanted = random.pick(batchesOf(owed)).header.lastTimestamp + random.integer(-1, 1)
  const found = await log.offsetForTime(wanted, log.filled.index)
  for (let count = 0; count <= owed.history.length; count++) {
    const { batches } = LogContent.after(owed.history, count)
    if (batches.length !== log.filled.index) continue
    const first = batches.find(
      ({ header, endOffset }) => !header.control && endOffset > log.startOffset && header.lastTimestamp >= wanted,
    )
    if (found === null ? first === undefined : first !== undefined && isIn(found.offset, first)) return
  }
  throw new Error(`${keyName(log.key)}: time ${wanted} leads to ${found?.offset}, where it never did`)
}

const isIn = (offset: number, { baseOffset, endOffset }: AppendedBatch): boolean =>
  baseOffset <= offset && offset < endOffset

function batchesOf({ history }: Owed): AppendedBatch[] {
  return history.flatMap((operation) => (operation.kind === 'append' ? [operation.batch] : []))
}

async function orRefused(work: () => Promise<void>): Promise<void> {
  try {
    await work()
  } catch (error) {
    if (!isTyped(error)) throw error
  }
}

function isTyped(error: unknown): boolean {
  return (
    error instanceof StorageError ||
    error instanceof ForeignSlotError ||
    error instanceof DiskError ||
    error instanceof ProtocolError
  )
}
