// What every message of the protocol provides: its number, its name and both directions of its encoding.
import type { Reader } from './reader.js'
import type { Writer } from './writer.js'

export interface MessageCodec<T> {
  /** The `kind` of the frame header. Numbers are for ever. */
  readonly kind: number
  readonly name: string
  /** Who sends it: a client, a broker to a client, or a broker to another one. */
  readonly sender: 'client' | 'broker' | 'peer'
  encode(message: T, writer: Writer): void
  /** @throws ProtocolError CORRUPT_FRAME. Views in the result share the frame's memory. */
  decode(reader: Reader): T
}
