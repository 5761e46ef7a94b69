// The directory as a whole: whose it is, its slots by their headers, and which log each belongs to.
import { crc32 } from '@millrace/protocol'
import { BLOCK_BYTES, type Block, DiskError, type Memory, type Volume } from '../environment.js'
import { IDENTITY_FILE, parseIdentity } from '../identity.js'
import { MAX_UNFLUSHED_BYTES } from '../limits.js'
import { StartError } from '../start-error.js'
import { keyText } from '../storage/group-envelope.js'
import { ForeignSlotError, type LogKey } from '../storage/log-store.js'
import { slotIdOf } from '../storage/slot.js'
import { readSlotHeader, type SlotIdentity } from '../storage/slot-header.js'
import { CHECKPOINT_HEADER_POSITIONS, FREE_HEADER_POSITION, ROLL_HEADER_POSITION } from '../storage/slot-layout.js'
import { type OwnedSlot, SCAN_BYTES, type ScannedSlot, type SlotReads, scanSlot } from '../storage/slot-scan.js'
import { VOLUME_RECORD_NAME, VolumeRecord } from '../storage/volume-record.js'
import { type HeaderState, InspectError, type Problem, type SlotReport } from './reports.js'

export interface InspectedLog {
  readonly key: LogKey
  readonly slots: readonly OwnedSlot[]
}

export interface InspectedVolume {
  readonly identity: SlotIdentity
  readonly starts: number | null
  readonly closedInOrder: boolean
  readonly slots: readonly SlotReport[]
  readonly logs: readonly InspectedLog[]
  readonly problems: readonly Problem[]
}

const HEADER_POSITIONS = [FREE_HEADER_POSITION, ...CHECKPOINT_HEADER_POSITIONS, ROLL_HEADER_POSITION]
const ROLL_BLOCK = 3
const TORN_SLOT_HINT = 'a power cut does that to a new slot; a log that misses it is reported as damaged'
const DAMAGE_HINT = 'keep a copy of the directory, then restore the file from a copy of before'

/** @throws InspectError when this is no data directory of a broker; DiskError. */
export async function inspectVolume(volume: Volume, memory: Memory): Promise<InspectedVolume> {
  const files = (await volume.list()).filter(({ name }) => slotIdOf(name) !== null)
  files.sort((a, b) => (a.name < b.name ? -1 : 1))
  const record = await volume.readSmall(VOLUME_RECORD_NAME)
  const identityBytes = await volume.readSmall(IDENTITY_FILE)
  if (files.length === 0 && record === null && identityBytes === null) throw await notOurs(volume)
  const block = memory.allocate(SCAN_BYTES)
  if (block === null) throw new InspectError('no memory is left to read the slots with')
  try {
    return await new VolumeInspection(volume, block).run(files, identityBytes)
  } finally {
    memory.release(block)
  }
}

async function notOurs(volume: Volume): Promise<InspectError> {
  const names = (await volume.list()).slice(0, 3).map(({ name }) => name)
  return new InspectError(
    names.length === 0
      ? `${volume.directory} is empty: give the directory that --data of the broker names`
      : `${volume.directory} is no data directory of a broker (it holds ${names.join(', ')}): ` +
          'give the one that --data of the broker names',
  )
}

class VolumeInspection {
  private readonly problems: Problem[] = []
  private readonly reports: SlotReport[] = []
  private readonly logs = new Map<string, { readonly key: LogKey; readonly slots: OwnedSlot[] }>()

  constructor(
    private readonly volume: Volume,
    private readonly block: Block,
  ) {}

  async run(
    files: readonly { readonly name: string; readonly byteLength: number }[],
    identityBytes: Uint8Array | null,
  ): Promise<InspectedVolume> {
    const { clean, dropped } = await VolumeRecord.load(this.volume)
    const fromFile = this.identityOf(identityBytes)
    const identity = fromFile ?? (await this.identityOfSlots(files.map(({ name }) => name)))
    for (const { name, byteLength } of files) await this.slot(name, byteLength, identity)
    for (const name of dropped.keys()) {
      if (!this.logs.delete(name)) continue
      this.note(
        `log ${name}`,
        'it is being dropped, and some of its slots still carry its name',
        'the next start goes on',
      )
    }
    const starts = fromFile?.starts ?? null
    const { reports: slots, problems } = this
    return { identity, starts, closedInOrder: clean, slots, logs: [...this.logs.values()], problems }
  }

  private identityOf(bytes: Uint8Array | null): (SlotIdentity & { readonly starts: number }) | null {
    const hint = 'put it back from a copy: a broker does not start without it'
    if (bytes === null) {
      this.problems.push({ severity: 'damage', where: IDENTITY_FILE, problem: 'it is missing', hint })
      return null
    }
    try {
      return parseIdentity(bytes, this.volume.directory)
    } catch (cause) {
      if (!(cause instanceof StartError)) throw cause
      if (cause.code === 'DATA_OF_NEWER_VERSION') throw new InspectError(cause.message, { cause })
      this.problems.push({ severity: 'damage', where: IDENTITY_FILE, problem: 'it was changed or damaged', hint })
      return null
    }
  }

  /** The identity that the first readable header names. @throws InspectError without any. */
  private async identityOfSlots(names: readonly string[]): Promise<SlotIdentity> {
    for (const name of names) {
      if (!(await this.read(name))) continue
      for (const position of HEADER_POSITIONS) {
        const read = readSlotHeader(this.block.bytes, this.block.view, position, crc32)
        if (read.kind === 'header') return read.header.identity
      }
    }
    throw new InspectError(`${this.volume.directory} has no ${IDENTITY_FILE}, and no slot says whose it is`)
  }

  /** Whether the beginning of a slot could be read into the block. */
  private async read(name: string): Promise<boolean> {
    const file = await this.volume.open(name)
    try {
      this.block.bytes.fill(0, 0, SCAN_BYTES)
      await file.read(0, this.block, 0, SCAN_BYTES)
      return true
    } catch (cause) {
      if (cause instanceof DiskError && cause.code === 'INPUT_OUTPUT') return false
      throw cause
    } finally {
      await file.close()
    }
  }

  private async slot(name: string, fileBytes: number, identity: SlotIdentity): Promise<void> {
    const id = slotIdOf(name)!
    const file = await this.volume.open(name)
    let scanned: ScannedSlot | null = null
    // What the disk refuses is what is to be shown.
    const reads: SlotReads = { read: (from, position, block, length) => from.read(position, block, 0, length) }
    try {
      scanned = await scanSlot(id, file, { byteLength: fileBytes }, this.block, identity, MAX_UNFLUSHED_BYTES, reads)
    } catch (cause) {
      if (!(cause instanceof ForeignSlotError)) throw cause
      this.damage(name, cause.message, 'move the file away: a broker does not start with slots of two owners')
    }
    const headers = HEADER_POSITIONS.map((position) => headerState(this.block, position, id))
    this.reports.push(reportOf(name, id, fileBytes, scanned, headers))
    if (scanned === null) return
    if (scanned.kind === 'unreadable') {
      if (scanned.refused) this.damage(name, `the disk refuses to read it: ${scanned.reason}`, DAMAGE_HINT)
      else this.note(name, 'none of its headers is valid, and it is not empty', TORN_SLOT_HINT)
    }
    if (scanned.kind !== 'owned') return
    this.judgeHeaders(name, scanned, headers)
    if (fileBytes < scanned.slot.byteLength) {
      this.damage(name, `it has ${fileBytes} of ${scanned.slot.byteLength} bytes`, DAMAGE_HINT)
    }
    const found = this.logs.get(keyText(scanned.owner.key))
    if (found === undefined) this.logs.set(keyText(scanned.owner.key), { key: scanned.owner.key, slots: [scanned] })
    else found.slots.push(scanned)
  }

  /**
   * A power cut tears a header that was being written: it is a hint, and lost without harm. But the header of the roll is
   * flushed before any header behind a checkpoint is written, so where one of those stands, it must hold.
   */
  private judgeHeaders(name: string, slot: OwnedSlot, headers: readonly HeaderState[]): void {
    headers.forEach((state, block) => {
      if (state === 'valid' || state === 'empty') return
      const problem = `the header in block ${block} is ${state}; ${slot.needsHeader ? 'the first group' : 'another one'} says the same`
      if (block === ROLL_BLOCK && slot.sequence > 0) this.damage(name, problem, 'nothing is lost yet: replace the disk')
      else this.note(name, problem, 'a power cut does that; it costs the next start some time at most')
    })
  }

  private damage(where: string, problem: string, hint: string): void {
    this.problems.push({ severity: 'damage', where, problem, hint })
  }

  private note(where: string, problem: string, hint: string): void {
    this.problems.push({ severity: 'note', where, problem, hint })
  }
}

function headerState({ bytes, view }: Block, position: number, id: number): HeaderState {
  const read = readSlotHeader(bytes, view, position, crc32)
  if (read.kind === 'unknownVersion') return 'unknown version'
  if (read.kind === 'header') {
    const isFree = position === FREE_HEADER_POSITION
    return read.header.slotId === id && (read.header.owner === null) === isFree ? 'valid' : 'misplaced'
  }
  // A header lost to zeros as far as it reaches, but not the block: that is not how it was before it was written.
  if (read.kind === 'empty') {
    return bytes.subarray(position, position + BLOCK_BYTES).every((byte) => byte === 0) ? 'empty' : 'invalid'
  }
  return 'invalid'
}

function reportOf(
  name: string,
  id: number,
  fileBytes: number,
  scanned: ScannedSlot | null,
  headers: readonly HeaderState[],
): SlotReport {
  const nothing = { topicId: null, partition: null, lane: null, basePosition: null }
  const base = { name, id, fileBytes, headers, ...nothing, checkpointPosition: null, watermark: null }
  if (scanned === null || scanned.kind === 'unreadable' || scanned.kind === 'unfinished') {
    const state = scanned?.kind ?? 'foreign'
    return { ...base, state, slotBytes: null, generation: null, writtenThrough: null }
  }
  const { byteLength: slotBytes, generation, writtenThrough } = scanned.slot
  if (scanned.kind === 'free') return { ...base, state: 'free', slotBytes, generation, writtenThrough }
  const { key, basePosition, checkpointPosition } = scanned.owner
  const watermark = Math.max(...scanned.copies.map((copy) => copy.watermark))
  return {
    ...base,
    ...key,
    state: 'owned',
    slotBytes,
    generation,
    writtenThrough,
    basePosition,
    checkpointPosition,
    watermark,
  }
}
