// Entries as they come in a frame: parsed in place, and refused when they are not what a leader's log holds.
import { LOG_PART_BYTES, ProtocolError, type RaftAppend } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import type { Block } from '#src/environment.js'
import { type LoggedEntry, readEntries } from '#src/peers/logged-entry.js'
import type { Configuration } from '#src/raft/raft-types.js'
import { heapMemory } from '../partition/fixture.js'
import { batchOf } from '../server/batches.js'
import { batchesAfter, GROUP, loggedBatch, withLogPart } from './logged-batches.js'

const START = 50
const CONFIGURATION: Configuration = { voters: [1, 2, 3], outgoing: [], learners: [] }
const APPEND_TIME = 1_700_000_000_000

/** Parses batches that lie behind a header of 50 bytes, after `change` has been at them. */
function parse(
  batches: readonly Uint8Array[],
  frame: Partial<RaftAppend> = {},
  change: (bytes: Uint8Array, view: DataView) => void = () => {},
): { entries: readonly LoggedEntry[]; block: Block } {
  const bytes = new Uint8Array(Buffer.concat([new Uint8Array(START), ...batches]))
  const block = heapMemory.allocate(bytes.length)!
  block.bytes.set(bytes)
  change(block.bytes.subarray(0, bytes.length), block.view)
  const whole: RaftAppend = {
    group: GROUP,
    term: 5,
    previousIndex: 10,
    previousTerm: 1,
    commit: 0,
    round: 1,
    batchCount: batches.length,
    batchesStart: START,
    ...frame,
  }
  return { entries: readEntries(heapMemory, block, bytes.length, whole, () => CONFIGURATION), block }
}

function codeOf(...parameters: Parameters<typeof parse>): string {
  try {
    parse(...parameters)
  } catch (error) {
    if (error instanceof ProtocolError) return error.code
    throw error
  }
  return 'nothing'
}

function flip(bytes: Uint8Array, bit: number): void {
  bytes[bit >> 3]! ^= 1 << (bit & 7)
}

const client = batchOf(1, { ...GROUP, sequence: 11 })
const part = { term: 1, baseOffset: 10, index: 11, appendTime: APPEND_TIME }

describe('entries of an append frame', () => {
  it('stand in the block of the frame', () => {
    const batches = batchesAfter(10, 5, { valueBytes: 300, term: 4 })
    const { entries, block } = parse(batches)
    expect(entries.map((entry) => entry.part.index)).toEqual([11, 12, 13, 14, 15])
    entries.forEach((entry, i) => {
      expect(entry.block).toBe(block)
      expect(block.bytes.subarray(entry.at, entry.at + entry.byteLength)).toEqual(batches[i])
      expect(entry).toMatchObject({ term: 4, configuration: null, clientAt: entry.at + LOG_PART_BYTES })
      expect(entry.header.length).toBe(entry.part.clientLength)
    })
  })

  it('bring the configuration of a control batch, whose checksum is verified', () => {
    const batches = [loggedBatch({ index: 11 }), loggedBatch({ index: 12, control: true })]
    expect(parse(batches).entries.map((entry) => entry.configuration)).toEqual([null, CONFIGURATION])
    const damageLast = (bytes: Uint8Array): void => flip(bytes, bytes.length * 8 - 1)
    expect(codeOf(batches, {}, damageLast)).toBe('CORRUPT_BATCH')
    // The records of others are for the log to verify.
    expect(codeOf(batches.slice(0, 1), {}, damageLast)).toBe('nothing')
  })

  it('are dense, rise in term, and follow the entry before them', () => {
    expect(codeOf(batchesAfter(11, 1))).toBe('CORRUPT_BATCH')
    expect(codeOf(batchesAfter(9, 1))).toBe('CORRUPT_BATCH')
    expect(codeOf([loggedBatch({ index: 11 }), loggedBatch({ index: 13 })])).toBe('CORRUPT_BATCH')
    expect(codeOf([loggedBatch({ index: 11, term: 2 }), loggedBatch({ index: 12, term: 1 })])).toBe('CORRUPT_BATCH')
    expect(codeOf(batchesAfter(10, 1), { previousTerm: 2 })).toBe('CORRUPT_BATCH')
    expect(codeOf(batchesAfter(10, 1, { term: 6 }))).toBe('CORRUPT_BATCH')
    const overlapping = [loggedBatch({ index: 11, baseOffset: 10 }), loggedBatch({ index: 12, baseOffset: 10 })]
    expect(codeOf(overlapping)).toBe('CORRUPT_BATCH')
    expect(codeOf(batchesAfter(0, 2), { previousIndex: 0, previousTerm: 0 })).toBe('nothing')
  })

  it('belong to the group of the frame', () => {
    for (const group of [
      { ...GROUP, topicId: 2 },
      { ...GROUP, partition: 1 },
      { ...GROUP, lane: 1 },
    ]) {
      expect(codeOf(batchesAfter(10, 1), { group })).toBe('CORRUPT_BATCH')
    }
  })

  it('fill the frame, no more and no less', () => {
    const batches = batchesAfter(10, 2)
    expect(codeOf(batches, { batchCount: 1 })).toBe('CORRUPT_BATCH')
    expect(codeOf(batches, { batchCount: 3 })).toBe('CORRUPT_BATCH')
    expect(codeOf([...batches, new Uint8Array(1)], { batchCount: 2 })).toBe('CORRUPT_BATCH')
    expect(codeOf([batches[0]!, batches[1]!.subarray(0, -1)])).toBe('CORRUPT_BATCH')
  })

  it('have log parts that verify, bit by bit', () => {
    const batches = batchesAfter(10, 1)
    for (let bit = 0; bit < LOG_PART_BYTES * 8; bit++) {
      expect(
        codeOf(batches, {}, (bytes) => flip(bytes, START * 8 + bit)),
        `bit ${bit}`,
      ).toBe('CORRUPT_BATCH')
    }
  })

  it('have numbers within their bounds', () => {
    const wide = 2 ** 53
    for (const wrong of [{ index: wide }, { baseOffset: wide - 1 }, { baseOffset: wide }, { appendTime: wide }]) {
      expect(codeOf([withLogPart(client, { ...part, ...wrong })]), JSON.stringify(wrong)).toBe('CORRUPT_BATCH')
    }
    const last = Number.MAX_SAFE_INTEGER
    const beyond = withLogPart(client, { ...part, index: last + 1 })
    expect(codeOf([beyond], { previousIndex: last })).toBe('CORRUPT_BATCH')
  })

  it('have the client part that their log part was written for', () => {
    const other = batchOf(1, { ...GROUP, sequence: 99 })
    const swapped = withLogPart(client, part)
    swapped.set(other, LOG_PART_BYTES)
    expect(codeOf([swapped])).toBe('CORRUPT_BATCH')
    // A length that the client part itself does not have, in a log part that verifies.
    const longer = new Uint8Array(client.length + 4)
    longer.set(client)
    expect(codeOf([withLogPart(longer, part)])).toBe('CORRUPT_BATCH')
    const shorter = withLogPart(client.subarray(0, 79), part)
    expect(codeOf([new Uint8Array(Buffer.concat([shorter, new Uint8Array(200)]))])).toBe('CORRUPT_BATCH')
    const foreign = client.slice()
    foreign[8] = 0
    expect(codeOf([withLogPart(foreign, part)])).toBe('INVALID_BATCH')
  })
})
