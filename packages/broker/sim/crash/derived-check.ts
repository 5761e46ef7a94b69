// What recovery derived from a log, compared with the same made anew from the log alone (reliability E4, check 5).
import { crc32 } from 'node:zlib'
import { GROUP_KINDS, readEnvelope } from '#src/storage/group-envelope.js'
import type { PartitionLog } from '#src/storage/log-store.js'
import type { Segment } from '#src/storage/segment.js'
import { indexIntervalOf, padded } from '#src/storage/slot-layout.js'
import { SparseIndex } from '#src/storage/sparse-index.js'
import { StoredLog } from '#src/storage/stored-log.js'
import { CrashFailure } from './crash-failure.js'
import type { AppendedBatch } from './log-history.js'
import { PAGE_BYTES, type VolumeImage } from './page-image.js'

/** @param image as the volume is now. @throws CrashFailure 'wrong index'. */
export function checkIndexes(name: string, log: PartitionLog, image: VolumeImage): void {
  if (!(log instanceof StoredLog)) throw new Error('a store opens logs of its own kind')
  const { chain } = log.writer
  for (const segment of chain.segments) {
    if (segment.index === null) continue
    const rebuilt = rebuiltIndex(segment, segment.endPosition ?? chain.end, image)
    if (same(segment.index, rebuilt)) continue
    throw new CrashFailure('wrong index', `${name}: the index of ${segment.slot.file.name} is not that of its groups`)
  }
}

/** From the envelopes, as they stand in the image. */
function rebuiltIndex(segment: Segment, end: number, image: VolumeImage): SparseIndex {
  const index = new SparseIndex(indexIntervalOf(segment.slot.byteLength))
  const file = image.files.get(segment.slot.file.name)!
  for (let position = segment.basePosition; position < end; ) {
    const page = file.page(segment.filePositionOf(position) / PAGE_BYTES)
    const envelope = readEnvelope(page, new DataView(page.buffer, page.byteOffset, page.byteLength), 0, crc32)
    if (envelope === null) break
    if (envelope.kind === GROUP_KINDS.batches) index.note(envelope)
    position += padded(envelope.length)
  }
  return index
}

function same(a: SparseIndex, b: SparseIndex): boolean {
  if (a.length !== b.length) return false
  for (let i = 0; i < a.length; i++) {
    const one = a.at(i)!
    const other = b.at(i)!
    const equal =
      one.position === other.position &&
      one.firstIndex === other.firstIndex &&
      one.firstOffset === other.firstOffset &&
      one.lastTimestamp === other.lastTimestamp
    if (!equal) return false
  }
  return true
}

/** Times and terms, asked of the log, answer as the batches do. @throws CrashFailure 'wrong index'. */
export async function checkSearches(name: string, log: PartitionLog, batches: readonly AppendedBatch[]): Promise<void> {
  if (batches.length === 0) return
  const last = batches.at(-1)!
  for (const batch of new Set([batches[0]!, batches[batches.length >> 1]!, last])) {
    const wanted = batch.header.lastTimestamp
    const found = await log.offsetForTime(wanted, last.index)
    const expected = batches.find(({ header }) => header.lastTimestamp >= wanted)!
    if (found !== null && found.offset >= expected.baseOffset && found.offset < expected.endOffset) continue
    throw new CrashFailure('wrong index', `${name}: time ${wanted} is found at ${found?.offset}`)
  }
  for (const [i, { baseOffset, endOffset, term }] of batches.entries()) {
    if (i > 0 && i < batches.length - 1 && batches[i - 1]!.term === term) continue
    if (endOffset === baseOffset || (await log.termAt(baseOffset)) === term) continue
    throw new CrashFailure('wrong index', `${name}: the term at offset ${baseOffset} is not ${term}`)
  }
}
