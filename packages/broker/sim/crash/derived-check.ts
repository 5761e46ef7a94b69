// What recovery derived from a log, compared with the same made anew from the log alone (reliability E4, check 5).
import { crc32 } from 'node:zlib'
import { loggedBatches } from '@millrace/protocol'
import { GROUP_KINDS, type GroupEnvelope, readEnvelope } from '#src/storage/group-envelope.js'
import type { PartitionLog } from '#src/storage/log-store.js'
import type { Segment } from '#src/storage/segment.js'
import { indexIntervalOf, padded } from '#src/storage/slot-layout.js'
import { type IndexEntry, SparseIndex } from '#src/storage/sparse-index.js'
import { StoredLog } from '#src/storage/stored-log.js'
import { CrashFailure } from './crash-failure.js'
import type { AppendedBatch } from './log-history.js'
import { PAGE_BYTES, type VolumeImage } from './page-image.js'

/** @param image as the volume is now. @throws CrashFailure 'wrong index'. */
export function checkIndexes(name: string, log: PartitionLog, image: VolumeImage): void {
  if (!(log instanceof StoredLog)) throw new Error('a store opens logs of its own kind')
  const { chain, truncations } = log.writer
  for (const segment of chain.segments) {
    const { index } = segment
    if (index === null) continue
    const groups = groupsOf(segment, segment.endPosition ?? chain.end, image)
    const alive = groups.filter(({ position, firstIndex }) => !truncations.isDead(position, firstIndex))
    // Where a truncation came by, entries may begin elsewhere: they have to hold all the same.
    const wrong = truncations.length === 0 ? differs(segment, index, groups) : leavesOut(index, alive)
    if (wrong !== null) throw new CrashFailure('wrong index', `${name}, ${segment.slot.file.name}: ${wrong}`)
  }
}

/** The groups of batches, as their envelopes stand in the image. */
function groupsOf(segment: Segment, end: number, image: VolumeImage): GroupEnvelope[] {
  const groups: GroupEnvelope[] = []
  const file = image.files.get(segment.slot.file.name)!
  for (let position = segment.basePosition; position < end; ) {
    const page = file.page(segment.filePositionOf(position) / PAGE_BYTES)
    const envelope = readEnvelope(page, new DataView(page.buffer, page.byteOffset, page.byteLength), 0, crc32)
    if (envelope === null) break
    if (envelope.kind === GROUP_KINDS.batches) groups.push(envelope)
    position += padded(envelope.length)
  }
  return groups
}

function differs(segment: Segment, index: SparseIndex, groups: readonly GroupEnvelope[]): string | null {
  const made = new SparseIndex(indexIntervalOf(segment.slot.byteLength))
  for (const group of groups) made.note(group)
  const entries = JSON.stringify(entriesOf(index))
  const expected = JSON.stringify(entriesOf(made))
  return entries === expected ? null : `the index says ${entries}, its groups ${expected}`
}

/** Every group is found by offset and by time from an entry before it. */
function leavesOut(index: SparseIndex, groups: readonly GroupEnvelope[]): string | null {
  const entries = entriesOf(index)
  for (const { position, firstOffset, firstIndex, lastTimestamp } of groups) {
    const entry = entries.findLast((one) => one.position <= position)
    const holds = entry !== undefined && entry.firstIndex <= firstIndex && entry.firstOffset <= firstOffset
    if (holds && entry.lastTimestamp >= lastTimestamp) continue
    return `the index ${JSON.stringify(entries)} leaves out the group at ${position}`
  }
  return null
}

function entriesOf(index: SparseIndex): IndexEntry[] {
  return Array.from({ length: index.length }, (_, i) => index.at(i)!)
}

/** Times and terms, asked of the log, answer as the batches do. @throws CrashFailure 'wrong index'. */
export async function checkSearches(name: string, log: PartitionLog, batches: readonly AppendedBatch[]): Promise<void> {
  const data = batches.filter(({ header, endOffset }) => !header.control && endOffset > log.startOffset)
  if (data.length === 0) return
  for (const batch of new Set([data[0]!, data[data.length >> 1]!, data.at(-1)!])) {
    const wanted = batch.header.lastTimestamp
    const found = await log.offsetForTime(wanted, log.filled.index)
    const expected = data.find(({ header }) => header.lastTimestamp >= wanted)!
    if (found !== null && found.offset >= expected.baseOffset && found.offset < expected.endOffset) continue
    throw new CrashFailure('wrong index', `${name}: time ${wanted} is found at ${found?.offset}`)
  }
  for (const [i, { baseOffset, term }] of data.entries()) {
    if (i > 0 && i < data.length - 1 && data[i - 1]!.term === term) continue
    if ((await log.termAt(baseOffset)) === term) continue
    throw new CrashFailure('wrong index', `${name}: the term at offset ${baseOffset} is not ${term}`)
  }
}

/** By index every batch from the start on is served once, control batches included, and has its term. */
export async function checkIndexReads(
  name: string,
  log: PartitionLog,
  batches: readonly AppendedBatch[],
): Promise<void> {
  const { index: first, previousTerm } = log.start
  if (log.termAtIndex(first - 1) !== previousTerm) throw new CrashFailure('wrong index', `${name}: a term before it`)
  const expected = batches.filter(({ index }) => index >= first)
  for (let at = 0; at < expected.length; ) {
    const { index: wanted } = expected[at]!
    const read = await log.readFrom(wanted, 64 * 1024)
    const bytes = Buffer.concat(
      read.pieces.map(({ block, offset, length }) => block.bytes.subarray(offset, offset + length)),
    )
    read.release()
    if (read.batchCount === 0) throw new CrashFailure('lost', `${name}: batch ${wanted} is not served by its index`)
    for (const { index, term, clientStart, end } of loggedBatches(bytes, crc32)) {
      const batch = expected[at++]
      const isSame = batch?.index === index && batch.term === term && log.termAtIndex(index) === term
      if (isSame && Buffer.compare(bytes.subarray(clientStart, end), batch.bytes) === 0) continue
      throw new CrashFailure(
        'wrong index',
        `${name}: batch ${index} of term ${term} stands where ${batch?.index} should`,
      )
    }
  }
}
