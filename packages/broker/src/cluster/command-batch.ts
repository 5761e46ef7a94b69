// A metadata command as a batch of one record, and back.
import {
  BATCH_HEADER_BYTES,
  crc32,
  MAX_BATCH_BYTES,
  ProtocolError,
  RecordBatchBuilder,
  RecordReader,
  readBatchHeader,
} from '@millrace/protocol'
import { decodeCommand, encodeCommand, type MetadataCommand } from './metadata-command.js'

/** Brokers write no producer sessions into the metadata log. */
const NO_PRODUCER = [0, 0, 0, 0] as const

/** @param wallMs milliseconds since 1970. */
export function sealCommand(command: MetadataCommand, index: number, wallMs: number): Uint8Array {
  const builder = new RecordBatchBuilder(MAX_BATCH_BYTES)
  builder.tryAppend(null, encodeCommand(command), null, wallMs)
  const identity = {
    topicId: 0,
    partition: 0,
    lane: 0,
    control: false,
    producer: NO_PRODUCER,
    epoch: 0,
    sequence: index % 0x1_0000_0000,
  }
  return builder.seal({ identity, checksum: crc32 })
}

/**
 * The command of the client part from `start` to `end`.
 * @throws ProtocolError INVALID_BATCH, INVALID_REQUEST for a batch that `sealCommand` of this version did not make.
 */
export function commandOf(bytes: Uint8Array, start: number, end: number): MetadataCommand {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const { recordCount, lastOffsetDelta } = readBatchHeader(view, start)
  const records = new RecordReader(bytes, start + BATCH_HEADER_BYTES, end, recordCount, lastOffsetDelta)
  records.next()
  const value = records.value()
  if (value === null) throw new ProtocolError('INVALID_BATCH', 'a metadata record without a value')
  return decodeCommand(value)
}
