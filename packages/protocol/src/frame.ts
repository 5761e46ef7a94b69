// The frame header, 16 bytes little-endian in front of every payload.
//
//   0  u32  length of the payload
//   4  u16  kind
//   6  u16  flags; bits 8 to 15 name features the receiver must know, bits 0 to 7 may be ignored
//   8  u32  correlation id (requests, replies) or cursor id
//  12  u32  deadlineMs in a request (0: none), throttleMs in a reply
import { ProtocolError } from './errors.js'
import { MAX_FRAME_BYTES } from './limits.js'
import type { MessageCodec } from './message.js'
import { Writer } from './writer.js'

export const FRAME_HEADER_BYTES = 16
/** Version of the protocol that this package speaks. */
export const PROTOCOL_VERSION = 1
/** Version of what brokers say to each other; PEER_HELLO settles it. */
export const PEER_PROTOCOL_VERSION = 1
/** Flags whose meaning the receiver must know. None is defined yet. */
export const REQUIRED_FEATURE_FLAGS = 0xff00

export interface FrameHeader {
  readonly length: number
  readonly kind: number
  readonly flags: number
  readonly id: number
  /** Milliseconds; see the layout. */
  readonly timeMs: number
}

/** Reads a header; the caller has made sure that 16 bytes are there. */
export function readFrameHeader(view: DataView, at: number): FrameHeader {
  return {
    length: view.getUint32(at, true),
    kind: view.getUint16(at + 4, true),
    flags: view.getUint16(at + 6, true),
    id: view.getUint32(at + 8, true),
    timeMs: view.getUint32(at + 12, true),
  }
}

export function writeFrameHeader(view: DataView, at: number, header: FrameHeader): void {
  view.setUint32(at, header.length, true)
  view.setUint16(at + 4, header.kind, true)
  view.setUint16(at + 6, header.flags, true)
  view.setUint32(at + 8, header.id, true)
  view.setUint32(at + 12, header.timeMs, true)
}

/**
 * A whole frame, as bytes of its own or, where a `writer` is lent, as a view that is good until the writer's next use:
 * for senders that copy at once.
 * @throws ProtocolError FRAME_TOO_LARGE when no receiver would take it.
 * @param options.extraPayloadBytes bytes of payload the caller sends after these itself (batches of a produce frame).
 */
export function encodeFrame<T>(
  codec: MessageCodec<T>,
  message: T,
  options: {
    readonly id: number
    readonly timeMs?: number
    readonly extraPayloadBytes?: number
    readonly writer?: Writer
  },
): Uint8Array {
  const writer = options.writer?.clear() ?? new Writer()
  writer
    .u32(0)
    .u16(codec.kind)
    .u16(0)
    .u32(options.id)
    .u32(options.timeMs ?? 0)
  codec.encode(message, writer)
  const length = writer.length - FRAME_HEADER_BYTES + (options.extraPayloadBytes ?? 0)
  if (length > MAX_FRAME_BYTES) {
    throw new ProtocolError('FRAME_TOO_LARGE', `${codec.name} with ${length} bytes, the limit is ${MAX_FRAME_BYTES}`)
  }
  writer.patchU32(0, length)
  return writer.written()
}
