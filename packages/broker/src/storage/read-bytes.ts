// What was read of a log as one array of its own, for whoever looks into the records.
import type { LogRead } from './log-store.js'

/** A copy: the read can be released. */
export function bytesOf(read: LogRead): Uint8Array {
  const bytes = new Uint8Array(read.byteLength)
  let at = 0
  for (const piece of read.pieces) {
    bytes.set(piece.block.bytes.subarray(piece.offset, piece.offset + piece.length), at)
    at += piece.length
  }
  return bytes
}
