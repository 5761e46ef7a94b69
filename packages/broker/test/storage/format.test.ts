// The codecs of the disk format: what is written is read, what is damaged is not, and docs/DISK-FORMAT.md tells the truth.
import { readFileSync } from 'node:fs'
import { crc32, LOG_PART_BYTES, Reader, Writer } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { CHECKPOINT_BYTES, MAX_GROUP_BYTES, MAX_UNFLUSHED_BYTES, SLOT_BYTES, VOTE_AREA_BYTES } from '#src/limits.js'
import { decodeCheckpoint, encodeCheckpoint } from '#src/storage/checkpoint.js'
import { ENVELOPE_BYTES, GROUP_KINDS, GROUP_MAGIC, readEnvelope, writeEnvelope } from '#src/storage/group-envelope.js'
import { LogStarts } from '#src/storage/log-start.js'
import { slotIdOf, slotName } from '#src/storage/slot.js'
import {
  MAX_CLUSTER_ID_BYTES,
  readSlotHeader,
  SLOT_HEADER_BYTES,
  SLOT_MAGIC,
  type SlotHeader,
  writeSlotHeader,
} from '#src/storage/slot-header.js'
import {
  dataLimitOf,
  indexIntervalOf,
  indexReserveOf,
  MAX_INDEX_ENTRIES,
  MIN_INDEX_INTERVAL_BYTES,
  maxGroupBytesOf,
  SLOT_DATA_START,
  unflushedWindowOf,
} from '#src/storage/slot-layout.js'
import { SparseIndex } from '#src/storage/sparse-index.js'
import { storageLimits } from '#src/storage/storage-limits.js'
import { TermTable } from '#src/storage/term-table.js'
import { Truncations } from '#src/storage/truncations.js'
import { VOTE_ENTRY_BYTES, VOTE_HEADER_BYTES, VOTE_MARKS, VOTE_RECORD_MAGIC } from '#src/storage/vote-record.js'

const ENVELOPE = {
  kind: GROUP_KINDS.batches,
  key: { topicId: 1, partition: 2, lane: 3 },
  slotId: 4,
  generation: 5,
  session: 6,
  position: 2 ** 40 + 7,
  durableTo: 2 ** 40 + 1,
  length: 8,
  batchCount: 9,
  contentChecksum: 10,
  previous: 11,
  firstIndex: 2 ** 35 + 12,
  firstOffset: 2 ** 36 + 13,
  lastTimestamp: 1_700_000_000_000,
  cutFrom: 123_456_789_012,
}

const HEADER: SlotHeader = {
  identity: { clusterId: 'a cluster ü', nodeId: 77, diskId: '00112233445566778899aabbccddeeff' },
  slotId: 4,
  slotBytes: 1024 * 1024,
  generation: 5,
  sequence: 6,
  writtenThrough: true,
  owner: {
    key: { topicId: 1, partition: 2, lane: 3 },
    previous: 7,
    basePosition: 2 ** 40,
    baseIndex: 8,
    baseOffset: 9,
    maxTimestampBefore: 10,
    lastAppendTimeBefore: 15,
    indexPosition: 11,
    checkpointPosition: 12,
    watermark: 13,
    lookAheadBytes: 14,
    cutFrom: 15,
  },
}

function block(): { bytes: Uint8Array; view: DataView } {
  const bytes = new Uint8Array(8192).fill(0xee)
  return { bytes, view: new DataView(bytes.buffer) }
}

describe('the envelope', () => {
  it('is read as it was written, and not with any bit flipped', () => {
    const { bytes, view } = block()
    const checksum = writeEnvelope(bytes, view, 4096, ENVELOPE, crc32)
    expect(readEnvelope(bytes, view, 4096, crc32)).toEqual({ ...ENVELOPE, checksum })
    for (let bit = 0; bit < ENVELOPE_BYTES * 8; bit++) {
      bytes[4096 + (bit >> 3)]! ^= 1 << (bit & 7)
      expect(readEnvelope(bytes, view, 4096, crc32)).toBeNull()
      bytes[4096 + (bit >> 3)]! ^= 1 << (bit & 7)
    }
    expect(readEnvelope(new Uint8Array(4096), new DataView(new ArrayBuffer(4096)), 0, crc32)).toBeNull()
  })
})

describe('the slot header', () => {
  it.each([
    ['owned', HEADER],
    ['owned without checkpoint', { ...HEADER, owner: { ...HEADER.owner!, checkpointPosition: null } }],
    ['free', { ...HEADER, generation: 4, owner: null, writtenThrough: false }],
  ])('of a slot that is %s is read as it was written, and not with any bit flipped', (_, header) => {
    const { bytes, view } = block()
    writeSlotHeader(bytes, view, 0, header, crc32)
    expect(readSlotHeader(bytes, view, 0, crc32)).toEqual({ kind: 'header', header })
    expect(bytes.subarray(SLOT_HEADER_BYTES, 4096).every((byte) => byte === 0)).toBe(true)
    for (let bit = 0; bit < SLOT_HEADER_BYTES * 8; bit++) {
      bytes[bit >> 3]! ^= 1 << (bit & 7)
      expect(readSlotHeader(bytes, view, 0, crc32).kind).toBe('invalid')
      bytes[bit >> 3]! ^= 1 << (bit & 7)
    }
  })

  it('is told from an empty block', () => {
    const bytes = new Uint8Array(4096)
    expect(readSlotHeader(bytes, new DataView(bytes.buffer), 0, crc32).kind).toBe('empty')
  })

  it('is that of a file with the name', () => {
    expect(slotName(255)).toBe('slot-000000ff')
    expect(slotIdOf('slot-000000ff')).toBe(255)
    for (const name of ['slot-ff', 'slot-000000FF', 'log-store', 'slot-000000ff.tmp']) expect(slotIdOf(name)).toBeNull()
  })
})

describe('the checkpoint', () => {
  it('is read as it was written', () => {
    const terms = new TermTable()
    const slotIndex = new SparseIndex(1000)
    for (let i = 0; i < 20; i++) {
      terms.note(1 + (i >> 2), i, i * 10)
      slotIndex.note({ position: i * 400, firstIndex: i, firstOffset: i * 10, lastTimestamp: (i * 37) % 50 })
    }
    const starts = new LogStarts({ index: 3, offset: 30, previousTerm: 1 })
    starts.propose(15, { index: 8, offset: 80, previousTerm: 2 })
    const truncations = new Truncations()
    truncations.note({ position: 4000, lastIndex: 9, nextOffset: 90 })
    truncations.note({ position: 6000, lastIndex: 14, nextOffset: 140 })
    const checkpoint = {
      index: 20,
      nextOffset: 200,
      term: 5,
      maxTimestamp: 49,
      lastAppendTime: 50,
      starts,
      truncations,
      terms,
      slotIndex,
      state: new Uint8Array([1, 2, 3]),
    }
    const bytes = encodeCheckpoint(checkpoint).slice()
    const read = decodeCheckpoint(bytes, 1000)
    expect(read).toEqual(checkpoint)
    expect([0, 9, 39, 40, 199].map((offset) => read.terms.termAt(offset))).toEqual([1, 1, 1, 2, 5])
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeCheckpoint(bytes.subarray(0, length), 1000)).toThrow()
    }
  })
})

describe('the sparse index', () => {
  it('finds where to begin, for an offset and for a time', () => {
    const index = new SparseIndex(1000)
    for (let i = 0; i < 50; i++) {
      index.note({ position: i * 400, firstIndex: i, firstOffset: i * 10, lastTimestamp: i === 30 ? 500 : i })
    }
    expect(index.length).toBe(17)
    for (let offset = 0; offset < 500; offset++) {
      const entry = index.at(index.find({ by: 'offset', at: offset }))!
      expect(entry.firstOffset).toBeLessThanOrEqual(offset)
      expect(offset - entry.firstOffset).toBeLessThan(30)
    }
    for (let i = 0; i < 50; i++) expect(index.at(index.find({ by: 'index', at: i }))!.firstIndex).toBe(i - (i % 3))
    expect(index.findTime(0)).toBe(0)
    expect(index.at(index.findTime(40))).toMatchObject({ firstIndex: 30, lastTimestamp: 500 })
    expect(index.findTime(501)).toBe(-1)
    expect(new SparseIndex(10).find({ by: 'offset', at: 5 })).toBe(-1)
    const writer = new Writer()
    index.encode(writer)
    expect(SparseIndex.decode(new Reader(writer.written()), 1000)).toEqual(index)
    expect(index.isWithin(0, 50 * 400)).toBe(true)
    expect(index.isWithin(1, 50 * 400)).toBe(false)
    expect(index.isWithin(0, 40 * 400)).toBe(false)
  })

  it('fits the room kept for it in every size of slot', () => {
    for (const slotBytes of [64 * 1024, 256 * 1024, ...SLOT_BYTES]) {
      const interval = indexIntervalOf(slotBytes)
      const index = new SparseIndex(interval)
      for (let at = 0; at < dataLimitOf(slotBytes) - SLOT_DATA_START; at += 4096) {
        index.note({ position: at, firstIndex: 0, firstOffset: 0, lastTimestamp: 0 })
      }
      const writer = new Writer()
      index.encode(writer)
      expect(writer.length + ENVELOPE_BYTES).toBeLessThanOrEqual(indexReserveOf(slotBytes))
      expect(dataLimitOf(slotBytes) - SLOT_DATA_START).toBeGreaterThanOrEqual(maxGroupBytesOf(slotBytes))
    }
  })
})

describe('the limits', () => {
  it.each([
    ['slots that are no blocks', { slotBytes: [1_000_000, 64 * 1024 * 1024] }],
    ['slots out of order', { slotBytes: [64 * 1024 * 1024, 1024 * 1024] }],
    ['slots too small for the largest group', { slotBytes: [1024 * 1024] }],
    ['a window smaller than a group', { maxUnflushedBytes: 1024 * 1024 }],
    ['a cache that does not hold the largest batch', { cacheBytes: 4 * 1024 * 1024 }],
    ['frames that are no blocks', { frameBytes: 100_000 }],
    ['append memory too small', { appendMemoryBytes: 4 * 1024 * 1024 }],
  ])('refuse %s', (_, limits) => {
    expect(() => storageLimits(limits)).toThrow()
  })

  it('go together as they are', () => {
    expect(() => storageLimits()).not.toThrow()
    expect(MAX_UNFLUSHED_BYTES).toBeGreaterThanOrEqual(MAX_GROUP_BYTES)
  })
})

describe('docs/DISK-FORMAT.md', () => {
  const page = readFileSync(new URL('../../../../docs/DISK-FORMAT.md', import.meta.url), 'utf8').replace(/\s+/g, ' ')
  const number = (value: number): string => value.toLocaleString('en-US')
  const windows = SLOT_BYTES.map((bytes) => unflushedWindowOf(bytes, MAX_UNFLUSHED_BYTES))
  const groups = SLOT_BYTES.map((bytes) => Math.min(maxGroupBytesOf(bytes), MAX_GROUP_BYTES))
  const magic = (value: number): string => String.fromCharCode(...new Uint8Array(new Uint32Array([value]).buffer))

  it.each([
    `one of the sizes ${SLOT_BYTES.slice(0, -1).map(number).join(', ')} or ${number(SLOT_BYTES.at(-1)!)} bytes`,
    `byte ${SLOT_DATA_START} groups`,
    `A header is ${SLOT_HEADER_BYTES} bytes`,
    `bytes 4 to ${SLOT_HEADER_BYTES}`,
    `magic \`${magic(SLOT_MAGIC)}\``,
    `at most ${MAX_CLUSTER_ID_BYTES} bytes`,
    `field of the envelope, ${ENVELOPE_BYTES} bytes`,
    `bytes 4 to ${ENVELOPE_BYTES}`,
    `magic \`${magic(GROUP_MAGIC)}\``,
    `(${GROUP_KINDS.batches} batches, ${GROUP_KINDS.checkpoint} checkpoint, ${GROUP_KINDS.index} index, ${GROUP_KINDS.beginning} beginning)`,
    `two areas of ${number(VOTE_AREA_BYTES)} bytes`,
    `magic \`${magic(VOTE_RECORD_MAGIC)}\``,
    `| ${VOTE_HEADER_BYTES} | entries of ${VOTE_ENTRY_BYTES} bytes`,
    `Marks: ${VOTE_MARKS.forgotten} forgotten, ${VOTE_MARKS.lost} lost, ${VOTE_MARKS.damaged} the replica`,
    `log part (${LOG_PART_BYTES} bytes)`,
    `At most ${number(MAX_GROUP_BYTES)} bytes make a group`,
    `every ${number(CHECKPOINT_BYTES)} bytes of log`,
    `every 1/${MAX_INDEX_ENTRIES} of the slot, at least ${number(MIN_INDEX_INTERVAL_BYTES)} bytes`,
    `${number(windows[0]!)} bytes in the smallest slots, ${number(windows[1]!)} and ${number(windows[2]!)} in the middle ones,`,
    `ones, ${number(windows[3]!)} in the largest`,
    `(${groups.slice(0, -1).map(number).join(', ')} and ${number(groups.at(-1)!)} bytes)`,
  ])('says: %s', (sentence) => {
    expect(page).toContain(sentence)
  })
})
