// What a follower gets with the start of a log: the offset there, and the owner's state, which may speak of
// batches that follow and knows which.
//   u16 version, u64 offset of the first record, u32 length + the owner's state
import { ProtocolError, Reader, Writer } from '@millrace/protocol'

export interface InstalledState {
  /** Offset of the first record of the log. */
  readonly offset: number
  readonly state: Uint8Array
}

const VERSION = 1
export const MAX_INSTALLED_STATE_BYTES = 4 * 1024 * 1024

export function encodeInstalledState({ offset, state }: InstalledState): Uint8Array {
  const writer = new Writer(32 + state.length)
  writer.u16(VERSION).u64(offset).u32(state.length).bytes(state)
  return writer.written()
}

/** @throws ProtocolError CORRUPT_FRAME, UNSUPPORTED_FEATURE. */
export function decodeInstalledState(bytes: Uint8Array): InstalledState {
  const reader = new Reader(bytes)
  const version = reader.u16()
  if (version !== VERSION) throw new ProtocolError('UNSUPPORTED_FEATURE', `installed state of version ${version}`)
  const offset = reader.u64()
  const length = reader.count(reader.u32(), 1, MAX_INSTALLED_STATE_BYTES)
  return { offset, state: reader.bytes(length).slice() }
}
