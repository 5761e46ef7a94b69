// Whether the records of a batch can be read: unpacked where they are packed, then walked from the first to the last.
import { BATCH_HEADER_BYTES, type BatchHeader, type CodecName, ProtocolError, RecordReader } from '@millrace/protocol'
import type { Block } from '../environment.js'

/** Null for a codec that is not to be had here. @throws Error for bytes that do not unpack, or to more than `maxBytes`. */
export type Unpack = (bytes: Uint8Array, maxBytes: number, codec: CodecName) => Uint8Array | null

/**
 * What is wrong with the records of a batch whose checksum holds; null for nothing, and for a codec that is not to be had
 * here: its checksum has to do.
 */
export function whyRecordsFail({ bytes }: Block, clientAt: number, header: BatchHeader, unpack: Unpack): string | null {
  const from = clientAt + BATCH_HEADER_BYTES
  const to = clientAt + header.length
  try {
    if (header.codec === 'none') return walkRecords(bytes, from, to, header)
    const body = unpack(bytes.subarray(from, to), header.decodedBytes, header.codec)
    if (body === null) return null
    if (body.length !== header.decodedBytes) {
      return `its body unpacks to ${body.length} bytes, the header says ${header.decodedBytes}`
    }
    return walkRecords(body, 0, body.length, header)
  } catch (cause) {
    return cause instanceof ProtocolError ? cause.detail : `its body does not unpack: ${String(cause)}`
  }
}

function walkRecords(bytes: Uint8Array, from: number, to: number, header: BatchHeader): null {
  const records = new RecordReader(bytes, from, to, header.recordCount, header.lastOffsetDelta, header)
  while (records.next()) {
    // Every record is bounds-checked as it is passed.
  }
  return null
}
