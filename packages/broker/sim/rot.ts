// Rot: a bit of a batch that was flushed long ago turns over on the disk, behind everybody's back.
import { crc32, readLogPart } from '@millrace/protocol'
import { ENVELOPE_BYTES, type GroupEnvelope, readEnvelope } from '#src/storage/group-envelope.js'
import { slotIdOf } from '#src/storage/slot.js'
import { readSlotHeader } from '#src/storage/slot-header.js'
import { SLOT_DATA_START } from '#src/storage/slot-layout.js'
import type { DirectoryImage } from './disk-image.js'
import { type FileImage, PAGE_BYTES } from './file-image.js'
import type { SeededRandom } from './random.js'

interface Candidate {
  readonly name: string
  readonly file: FileImage
  readonly at: number
  readonly envelope: GroupEnvelope
}

/** A group of batches as it stands in a slot. */
export interface StoredGroup {
  readonly topicId: number
  readonly partition: number
  readonly firstIndex: number
  readonly lastIndex: number
  /** Of its first batch. */
  readonly term: number
}

export interface FlippedBit {
  readonly name: string
  readonly filePosition: number
  readonly topicId: number
  readonly partition: number
  /** Whether the slot still belongs to that log, and was not given back since. */
  isThere(): boolean
}

/**
 * Flips a bit of a group that is wanted and was flushed for certain: a later group of the
 * same session in the same slot was written knowing that. Null where there is none.
 */
export function flipFlushedBit(
  directory: DirectoryImage,
  isWanted: (group: StoredGroup) => boolean,
  random: SeededRandom,
): FlippedBit | null {
  const candidates: Candidate[] = []
  for (const [name, file] of [...directory.files].sort(([a], [b]) => (a < b ? -1 : 1))) {
    const slotId = slotIdOf(name)
    if (slotId === null) continue
    const groups = groupsOf(name, file, ownedGeneration(file), slotId)
    const isFlushed = ({ envelope }: Candidate): boolean =>
      groups.some((other) => {
        const { session, durableTo } = other.envelope
        return session === envelope.session && durableTo >= envelope.position + envelope.length
      })
    candidates.push(...groups.filter((group) => isWanted(storedGroup(group)) && isFlushed(group)))
  }
  if (candidates.length === 0) return null
  const { name, file, at, envelope } = random.pick(candidates)
  const filePosition = at + random.integer(0, envelope.length - 1)
  file.damage(filePosition, (page) => {
    page[filePosition % PAGE_BYTES]! ^= 1 << random.integer(0, 7)
  })
  const { topicId, partition } = envelope.key
  return { name, filePosition, topicId, partition, isThere: () => ownedGeneration(file) === envelope.generation }
}

function storedGroup({ file, at, envelope }: Candidate): StoredGroup {
  const { bytes } = pageOf(file, at)
  const { key, firstIndex, batchCount } = envelope
  const { term } = readLogPart(new DataView(bytes.buffer), ENVELOPE_BYTES)
  return { topicId: key.topicId, partition: key.partition, firstIndex, lastIndex: firstIndex + batchCount - 1, term }
}

function pageOf(file: FileImage, at: number): { readonly bytes: Uint8Array; readonly view: DataView } {
  const bytes = new Uint8Array(PAGE_BYTES)
  file.read(at, bytes)
  return { bytes, view: new DataView(bytes.buffer) }
}

/** The generation of a slot that belongs to a log now; null for a free one. */
function ownedGeneration(file: FileImage): number | null {
  let latest = -1
  for (let at = 0; at < SLOT_DATA_START; at += PAGE_BYTES) {
    const { bytes, view } = pageOf(file, at)
    const read = readSlotHeader(bytes, view, 0, crc32)
    if (read.kind === 'header') latest = Math.max(latest, read.header.generation)
  }
  return latest % 2 === 1 ? latest : null
}

/** Groups of batches, one after the other as long as they follow each other. */
function groupsOf(name: string, file: FileImage, generation: number | null, slotId: number): Candidate[] {
  const found: Candidate[] = []
  let previous: number | null = null
  for (let at = SLOT_DATA_START; at + PAGE_BYTES <= file.size; ) {
    const { bytes, view } = pageOf(file, at)
    const envelope = readEnvelope(bytes, view, 0, crc32)
    if (envelope === null || envelope.generation !== generation || envelope.slotId !== slotId) break
    if (previous !== null && envelope.previous !== previous) break
    if (envelope.kind === 0) found.push({ name, file, at, envelope })
    previous = envelope.checksum
    at += Math.ceil(envelope.length / PAGE_BYTES) * PAGE_BYTES
  }
  return found
}
