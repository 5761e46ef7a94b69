// MessagePack as Millrace uses it: plain maps, no record structures, no classes, so that any language reads it.
import { ProtocolError } from '@millrace/protocol'
import { Packr } from 'msgpackr'

const packer = new Packr({ useRecords: false, moreTypes: false })

export function encodeMessagePack(value: unknown): Uint8Array {
  // The packer hands out a piece of a buffer it goes on using for others; what is kept must be a copy.
  return new Uint8Array(packer.pack(value))
}

/** @throws ProtocolError INVALID_REQUEST for bytes that are not one MessagePack value. */
export function decodeMessagePack(bytes: Uint8Array): unknown {
  try {
    return packer.unpack(bytes)
  } catch (cause) {
    throw new ProtocolError('INVALID_REQUEST', 'the payload is not MessagePack', { cause })
  }
}

export type Fields = Readonly<Record<string, unknown>>

/** A MessagePack map with text keys. @throws ProtocolError INVALID_REQUEST for anything else. */
export function decodeFields(bytes: Uint8Array): Fields {
  const value = bytes.length === 0 ? {} : decodeMessagePack(bytes)
  if (typeof value !== 'object' || value === null || Object.getPrototypeOf(value) !== Object.prototype) {
    throw new ProtocolError('INVALID_REQUEST', 'the payload is not a map')
  }
  return value as Fields
}
