// Batches as they stand in a leader's log, and reads of them that count how often they are released.
import { crc32, LOG_PART_BYTES, type LogPart, readBatchHeader, writeLogPart } from '@millrace/protocol'
import type { Environment } from '#src/environment.js'
import type { LogKey, LogRead } from '#src/storage/log-store.js'
import { mustAllocate } from '../contract/fixture.js'
import { batchOf } from '../server/batches.js'

export const GROUP: LogKey = { topicId: 1, partition: 0, lane: 0 }

export interface SomeBatch {
  readonly index: number
  readonly term?: number
  readonly baseOffset?: number
  readonly valueBytes?: number
  readonly control?: boolean
  readonly group?: LogKey
}

/** Log part and client part of a batch with one record. */
export function loggedBatch(batch: SomeBatch): Uint8Array {
  const { index, term = 1, baseOffset = index - 1, valueBytes = 10, control = false, group = GROUP } = batch
  const client = batchOf([{ value: 'v'.repeat(valueBytes) }], { ...group, sequence: index, control })
  return withLogPart(client, { term, baseOffset, index, appendTime: 1_700_000_000_000 })
}

export function withLogPart(client: Uint8Array, part: Omit<LogPart, 'clientLength' | 'clientChecksum'>): Uint8Array {
  const bytes = new Uint8Array(LOG_PART_BYTES + client.length)
  bytes.set(client, LOG_PART_BYTES)
  const view = new DataView(bytes.buffer)
  const clientChecksum = new DataView(client.buffer, client.byteOffset).getUint32(0, true)
  writeLogPart(bytes, view, 0, { ...part, clientLength: client.length, clientChecksum }, crc32)
  return bytes
}

/** `count` batches that follow `previousIndex`. */
export function batchesAfter(previousIndex: number, count: number, options: Partial<SomeBatch> = {}): Uint8Array[] {
  return Array.from({ length: count }, (_, i) => loggedBatch({ ...options, index: previousIndex + 1 + i }))
}

export interface CountedRead extends LogRead {
  readonly released: number
}

/** A read of batches that lie in pieces of `pieceBytes`, each in a block of its own. */
export function readOf(environment: Environment, batches: readonly Uint8Array[], pieceBytes = 64 * 1024): CountedRead {
  const bytes = new Uint8Array(Buffer.concat(batches))
  const pieces: { block: ReturnType<typeof mustAllocate>; offset: number; length: number }[] = []
  for (let at = 0; at < bytes.length; at += pieceBytes) {
    const part = bytes.subarray(at, at + pieceBytes)
    const block = mustAllocate(environment, part.length + 8)
    block.bytes.set(part, 8)
    pieces.push({ block, offset: 8, length: part.length })
  }
  const view = new DataView(bytes.buffer)
  const first = batches.length === 0 ? null : readBatchHeader(view, LOG_PART_BYTES)
  let released = 0
  return {
    pieces,
    byteLength: bytes.length,
    batchCount: batches.length,
    decodedBytes: first?.decodedBytes ?? 0,
    firstIndex: 0,
    lastIndex: 0,
    nextOffset: 0,
    get released() {
      return released
    },
    release() {
      released++
      if (released > 1) throw new Error('a read is released once')
      for (const { block } of pieces) environment.memory.release(block)
    },
  }
}
