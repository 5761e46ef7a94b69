// The client part of a batch: built by the producer and never changed by anybody after that.
//
//   0  u32  checksum: CRC-32 of bytes 4 to length
//   4  u32  length, this header included
//   8  u16  magic 0x424d ("MB")
//  10  u8   version of this layout: 1
//  11  u8   codec of the body: 0 none, 1 gzip, 2 zstd
//  12  u32  topic id
//  16  u32  partition
//  20  u16  lane
//  22  u16  attributes: bit 0 control batch (never delivered to users); the rest is zero
//  24  16B  producer id, drawn at random by the client
//  40  u32  epoch of the producer
//  44  u32  sequence: counts the batches of this producer, epoch and partition from 0
//  48  u32  record count
//  52  u32  last offset delta: that of the last record; record count - 1 until compaction drops records, and always
//           below the limit of records, so that no batch can leap over offsets
//  56  u32  decoded size of the body in bytes
//  60  u32  body size in bytes; length = 80 + body size
//  64  u64  base timestamp, milliseconds since 1970: that of the first record
//  72  u64  last timestamp: the greatest of the batch
//  80       body: records, encoded by the codec
import { assert } from './assert.js'
import type { ChecksumFunction } from './checksum.js'
import { ProtocolError } from './errors.js'
import { MAX_BATCH_BYTES, MAX_DECODED_BYTES, MAX_RECORDS_PER_BATCH, MIN_RECORD_BYTES } from './limits.js'

export const BATCH_HEADER_BYTES = 80
export const BATCH_MAGIC = 0x424d
export const BATCH_VERSION = 1
export const ATTRIBUTE_CONTROL = 1
/** The checksum covers the bytes from here on. */
export const BATCH_CHECKSUM_START = 4

export const CODEC_IDS = { none: 0, gzip: 1, zstd: 2 } as const
export type CodecName = keyof typeof CODEC_IDS
/** By their number. */
export const CODEC_NAMES: readonly CodecName[] = ['none', 'gzip', 'zstd']

export function codecName(id: number): CodecName | null {
  return CODEC_NAMES[id] ?? null
}

export interface BatchHeader {
  readonly checksum: number
  /** Bytes of the whole client part. */
  readonly length: number
  readonly codec: CodecName
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  readonly control: boolean
  /** 128 bits as four u32, little-endian, so that reading a header makes no string. */
  readonly producer: readonly [number, number, number, number]
  readonly epoch: number
  readonly sequence: number
  readonly recordCount: number
  readonly lastOffsetDelta: number
  readonly decodedBytes: number
  readonly bodyBytes: number
  /** Milliseconds since 1970. */
  readonly baseTimestamp: number
  readonly lastTimestamp: number
}

const HIGH = 0x1_0000_0000

export function readU64(view: DataView, at: number): number {
  return view.getUint32(at + 4, true) * HIGH + view.getUint32(at, true)
}

export function writeU64(view: DataView, at: number, value: number): void {
  view.setUint32(at, value % HIGH, true)
  view.setUint32(at + 4, Math.floor(value / HIGH), true)
}

function invalid(detail: string): never {
  throw new ProtocolError('INVALID_BATCH', detail)
}

/**
 * Reads and checks the header of a client part that begins at `at`; at least BATCH_HEADER_BYTES bytes are there. That
 * `length` bytes are there is for the caller to check, who knows how long the batch was announced to be.
 * The checksum is not verified, since that takes the body (`verifyBatch`, or copy and checksum in one pass).
 * @throws ProtocolError INVALID_BATCH, BATCH_TOO_LARGE, CODEC_NOT_ALLOWED for a codec number nobody knows.
 */
export function readBatchHeader(view: DataView, at: number): BatchHeader {
  const length = view.getUint32(at + 4, true)
  if (view.getUint16(at + 8, true) !== BATCH_MAGIC) invalid('the magic number is missing')
  const version = view.getUint8(at + 10)
  if (version !== BATCH_VERSION) invalid(`batch version ${version} is unknown`)
  if (length > MAX_BATCH_BYTES) {
    throw new ProtocolError('BATCH_TOO_LARGE', `a batch of ${length} bytes, the limit is ${MAX_BATCH_BYTES}`)
  }
  const codec = codecName(view.getUint8(at + 11))
  if (codec === null) throw new ProtocolError('CODEC_NOT_ALLOWED', `codec ${view.getUint8(at + 11)} is unknown`)
  const attributes = view.getUint16(at + 22, true)
  if ((attributes & ~ATTRIBUTE_CONTROL) !== 0) invalid(`attributes 0x${attributes.toString(16)} are unknown`)
  const header: BatchHeader = {
    checksum: view.getUint32(at, true),
    length,
    codec,
    topicId: view.getUint32(at + 12, true),
    partition: view.getUint32(at + 16, true),
    lane: view.getUint16(at + 20, true),
    control: (attributes & ATTRIBUTE_CONTROL) !== 0,
    producer: [
      view.getUint32(at + 24, true),
      view.getUint32(at + 28, true),
      view.getUint32(at + 32, true),
      view.getUint32(at + 36, true),
    ],
    epoch: view.getUint32(at + 40, true),
    sequence: view.getUint32(at + 44, true),
    recordCount: view.getUint32(at + 48, true),
    lastOffsetDelta: view.getUint32(at + 52, true),
    decodedBytes: view.getUint32(at + 56, true),
    bodyBytes: view.getUint32(at + 60, true),
    baseTimestamp: readU64(view, at + 64),
    lastTimestamp: readU64(view, at + 72),
  }
  checkBatchHeader(header)
  return header
}

function checkBatchHeader(h: BatchHeader): void {
  if (h.length !== BATCH_HEADER_BYTES + h.bodyBytes) invalid(`length ${h.length} and body of ${h.bodyBytes} disagree`)
  if (h.recordCount === 0) invalid('a batch without records')
  if (h.recordCount > MAX_RECORDS_PER_BATCH) invalid(`${h.recordCount} records, the limit is ${MAX_RECORDS_PER_BATCH}`)
  if (h.lastOffsetDelta < h.recordCount - 1) invalid(`${h.recordCount} records up to offset delta ${h.lastOffsetDelta}`)
  if (h.lastOffsetDelta >= MAX_RECORDS_PER_BATCH) {
    invalid(`last offset delta ${h.lastOffsetDelta}, the limit is ${MAX_RECORDS_PER_BATCH - 1}`)
  }
  if (h.recordCount * MIN_RECORD_BYTES > h.decodedBytes) {
    invalid(`${h.recordCount} records in ${h.decodedBytes} decoded bytes`)
  }
  if (h.decodedBytes > MAX_DECODED_BYTES) invalid(`${h.decodedBytes} decoded bytes, the limit is ${MAX_DECODED_BYTES}`)
  if (h.codec === 'none' && h.decodedBytes !== h.bodyBytes) invalid('decoded and body size disagree without a codec')
  if (!Number.isSafeInteger(h.baseTimestamp) || !Number.isSafeInteger(h.lastTimestamp)) {
    invalid('a timestamp above 2^53')
  }
  if (h.lastTimestamp < h.baseTimestamp) invalid('the last timestamp lies before the first')
}

export type BatchIdentity = Pick<
  BatchHeader,
  'topicId' | 'partition' | 'lane' | 'control' | 'producer' | 'epoch' | 'sequence'
>
export type BatchContent = Pick<
  BatchHeader,
  'codec' | 'recordCount' | 'lastOffsetDelta' | 'decodedBytes' | 'baseTimestamp' | 'lastTimestamp'
>

/**
 * Writes the header in front of a body that already stands at byte 80, and the checksum over both.
 * @param batch exactly the client part: 80 bytes of room and the encoded body.
 */
export function sealBatch(
  batch: Uint8Array,
  identity: BatchIdentity,
  content: BatchContent,
  checksum: ChecksumFunction,
): void {
  assert(batch.length >= BATCH_HEADER_BYTES && batch.length <= MAX_BATCH_BYTES, `a batch of ${batch.length} bytes`)
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength)
  view.setUint32(4, batch.length, true)
  view.setUint16(8, BATCH_MAGIC, true)
  view.setUint8(10, BATCH_VERSION)
  view.setUint8(11, CODEC_IDS[content.codec])
  view.setUint32(12, identity.topicId, true)
  view.setUint32(16, identity.partition, true)
  view.setUint16(20, identity.lane, true)
  view.setUint16(22, identity.control ? ATTRIBUTE_CONTROL : 0, true)
  for (let i = 0; i < 4; i++) view.setUint32(24 + i * 4, identity.producer[i]!, true)
  view.setUint32(40, identity.epoch, true)
  view.setUint32(44, identity.sequence, true)
  view.setUint32(48, content.recordCount, true)
  view.setUint32(52, content.lastOffsetDelta, true)
  view.setUint32(56, content.decodedBytes, true)
  view.setUint32(60, batch.length - BATCH_HEADER_BYTES, true)
  writeU64(view, 64, content.baseTimestamp)
  writeU64(view, 72, content.lastTimestamp)
  view.setUint32(0, checksum(batch.subarray(BATCH_CHECKSUM_START), 0), true)
}

/** Whether the checksum of a client part holds. `batch` is exactly the client part. */
export function verifyBatch(batch: Uint8Array, checksum: ChecksumFunction): boolean {
  const view = new DataView(batch.buffer, batch.byteOffset, batch.byteLength)
  return view.getUint32(0, true) === checksum(batch.subarray(BATCH_CHECKSUM_START), 0)
}

/** A producer id as 32 hexadecimal digits in the order of its bytes, for logs and errors. */
export function producerName(producer: BatchHeader['producer']): string {
  let name = ''
  for (const word of producer) {
    for (let shift = 0; shift < 32; shift += 8) name += ((word >>> shift) & 0xff).toString(16).padStart(2, '0')
  }
  return name
}
