// Reads the vote journal: what is the last word on every group, and on which groups the last word is lost.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, DiskError, type DiskFile } from '../environment.js'
import { keyText } from './group-envelope.js'
import type { SlotIdentity } from './slot-header.js'
import { readVoteRecord, VOTE_MARKS, type VoteEntry, type VoteRecord } from './vote-record.js'

/** The areas of a file take turns: a snapshot never overwrites what it replaces. */
export const VOTE_AREAS = 2

export interface RecoveredVotes {
  readonly entries: Map<string, VoteEntry>
  /** Groups that are not there may have had an entry. */
  isIncomplete: boolean
  readonly generation: number
  /** Where the last snapshot stands. */
  readonly area: number
}

/** One copy of one area, as the disk gave it. */
export interface VoteArea {
  readonly bytes: Uint8Array
  readonly view: DataView
}

/** @returns the areas of a copy; what the disk refuses to read is as if nothing stood there. */
export async function readAreas(file: DiskFile, areaBytes: number, block: Block): Promise<VoteArea[]> {
  const areas: VoteArea[] = []
  for (let area = 0; area < VOTE_AREAS; area++) {
    const bytes = new Uint8Array(areaBytes)
    try {
      await readArea(file, area * areaBytes, bytes, block)
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'INPUT_OUTPUT') throw cause
    }
    areas.push({ bytes, view: new DataView(bytes.buffer) })
  }
  return areas
}

async function readArea(file: DiskFile, position: number, into: Uint8Array, block: Block): Promise<void> {
  for (let at = 0; at < into.length; at += block.byteLength) {
    const length = Math.min(block.byteLength, into.length - at)
    const count = await file.read(position + at, block, 0, length)
    into.set(block.bytes.subarray(0, count), at)
    if (count < length) return
  }
}

/** Every whole record of some copies of an area, by where it stands. */
class AreaRecords {
  constructor(
    private readonly copies: readonly VoteArea[],
    private readonly identity: SlotIdentity,
  ) {}

  /** The record of a generation that stands at a place in either copy. */
  at(position: number, generation: number): VoteRecord | null {
    return this.all(position).find((record) => record.generation === generation) ?? null
  }

  all(position: number): VoteRecord[] {
    return this.copies.flatMap(({ bytes, view }) => readVoteRecord(bytes, view, position, this.identity, crc32) ?? [])
  }

  get byteLength(): number {
    return this.copies[0]?.bytes.length ?? 0
  }

  newestGeneration(): number {
    let newest = 0
    for (let at = 0; at < this.byteLength; at += BLOCK_BYTES) {
      for (const { generation } of this.all(at)) newest = Math.max(newest, generation)
    }
    return newest
  }
}

/**
 * Invariant: a record is written only once everything before it is durable in both copies. So a bad record with a later
 * one behind it was durable once: what it said is lost, for all groups that no later record speaks of. A bad record at
 * the end was never promised.
 * @param copies the areas of each file.
 * @returns null when no record is found. @throws ForeignSlotError.
 */
export function recoverVotes(copies: readonly (readonly VoteArea[])[], identity: SlotIdentity): RecoveredVotes | null {
  let found: { readonly records: AreaRecords; readonly area: number; readonly generation: number } | null = null
  for (let area = 0; area < VOTE_AREAS; area++) {
    const records = new AreaRecords(
      copies.flatMap((areas) => areas[area] ?? []),
      identity,
    )
    const generation = records.newestGeneration()
    if (generation > (found?.generation ?? 0)) found = { records, area, generation }
  }
  if (found === null) return null
  const { records, area, generation } = found
  const recovered: RecoveredVotes = { entries: new Map(), isIncomplete: false, generation, area }
  let expected: Pick<VoteRecord, 'sequence' | 'previous'> | null = { sequence: 0, previous: 0 }
  for (let at = 0; at < records.byteLength; ) {
    const record = records.at(at, generation)
    if (record === null) {
      // Whatever is whole behind the gap proves that there was something in it.
      expected = null
      at += BLOCK_BYTES
      continue
    }
    const follows = expected !== null && record.sequence === expected.sequence && record.previous === expected.previous
    if (!follows) loseAll(recovered)
    apply(recovered, record)
    expected = { sequence: record.sequence + 1, previous: record.checksum }
    at += record.byteLength
  }
  return recovered
}

function apply(recovered: RecoveredVotes, { entries, isIncomplete }: VoteRecord): void {
  recovered.isIncomplete ||= isIncomplete
  for (const entry of entries) {
    if ((entry.marks & VOTE_MARKS.forgotten) !== 0) recovered.entries.delete(keyText(entry.key))
    else recovered.entries.set(keyText(entry.key), entry)
  }
}

function loseAll(recovered: RecoveredVotes): void {
  recovered.isIncomplete = true
  for (const [name, entry] of recovered.entries) {
    // That there was no log may have been said before, and no more in what is lost.
    recovered.entries.set(name, { ...entry, marks: (entry.marks | VOTE_MARKS.lost) & ~VOTE_MARKS.withoutLog })
  }
}
