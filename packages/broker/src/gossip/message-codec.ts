// Messages of gossip as bytes, before they are sealed:
//
//   datagram: kind u8 | sequence u32 | target u32 | metadata: position u64, hash u32 | leadership: version u64, hash u32 |
//             count u8 | claims
//   state:    kind u8 | metadata | leadership | count u16 | claims
//
// Sequence and target are 0 in kinds without them. The version of all this stands in the seal.
import { assert, ProtocolError, Reader, Writer } from '@millrace/protocol'
import { claimBytes, MIN_CLAIM_BYTES, readClaim, writeClaim } from './claim-codec.js'
import { MAX_DATAGRAM_CLAIMS, MESSAGE_HEADER_BYTES } from './datagram-size.js'
import { GossipError } from './gossip-error.js'
import type { Datagram, GossipMessage, LeadershipDigest, MetadataDigest, StateMessage } from './gossip-types.js'

const DATAGRAM_KINDS = ['ping', 'pingRequest', 'ack', 'nack', 'gossip'] as const
const STATE_REQUEST = 16
const STATE_REPLY = 17
const STATE_HEADER_BYTES = 1 + 12 + 12 + 2
/** In a whole state; more members than a cluster may have. */
export const MAX_STATE_CLAIMS = 4_096

export function encodeMessage(message: GossipMessage): Uint8Array {
  const writer = new Writer(512)
  if (isState(message)) {
    writer.u8(message.kind === 'stateRequest' ? STATE_REQUEST : STATE_REPLY)
    writeDigests(writer, message)
    assert(message.updates.length <= MAX_STATE_CLAIMS, 'a state has at most as many claims as a cluster members')
    writer.u16(message.updates.length)
  } else {
    writer.u8(DATAGRAM_KINDS.indexOf(message.kind))
    writer.u32('sequence' in message ? message.sequence : 0).u32('target' in message ? message.target : 0)
    writeDigests(writer, message)
    assert(message.updates.length <= MAX_DATAGRAM_CLAIMS, 'a datagram has few claims')
    writer.u8(message.updates.length)
  }
  for (const claim of message.updates) writeClaim(writer, claim)
  return writer.written()
}

/** @throws GossipError CORRUPT for bytes that no node would send. */
export function decodeMessage(bytes: Uint8Array): GossipMessage {
  try {
    const reader = new Reader(bytes)
    const kind = reader.u8()
    const message =
      kind === STATE_REQUEST || kind === STATE_REPLY ? readState(reader, kind) : readDatagram(reader, kind)
    if (reader.remaining > 0) throw new GossipError('CORRUPT', `${reader.remaining} bytes behind the last claim`)
    return message
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause
    throw new GossipError('CORRUPT', cause.detail, { cause })
  }
}

export function isState(message: GossipMessage): message is StateMessage {
  return message.kind === 'stateRequest' || message.kind === 'stateReply'
}

/** Of a message before it is sealed, without encoding it. */
export function messageBytes(message: GossipMessage): number {
  const header = isState(message) ? STATE_HEADER_BYTES : MESSAGE_HEADER_BYTES
  return message.updates.reduce((sum, claim) => sum + claimBytes(claim), header)
}

function readState(reader: Reader, kind: number): StateMessage {
  const digests = readDigests(reader)
  const updates = reader.list(reader.u16(), MIN_CLAIM_BYTES, MAX_STATE_CLAIMS, readClaim)
  return { kind: kind === STATE_REQUEST ? 'stateRequest' : 'stateReply', ...digests, updates }
}

function readDatagram(reader: Reader, kindNumber: number): Datagram {
  const kind = DATAGRAM_KINDS[kindNumber]
  const sequence = reader.u32()
  const target = reader.u32()
  const digests = readDigests(reader)
  const updates = reader.list(reader.u8(), MIN_CLAIM_BYTES, MAX_DATAGRAM_CLAIMS, readClaim)
  const payload = { ...digests, updates }
  switch (kind) {
    case undefined:
      throw new GossipError('CORRUPT', `no kind ${kindNumber} of messages`)
    case 'gossip':
      return { kind, ...payload }
    case 'pingRequest':
      return { kind, sequence, target, ...payload }
    default:
      return { kind, sequence, ...payload }
  }
}

interface Digests {
  readonly metadata: MetadataDigest
  readonly leadership: LeadershipDigest
}

function writeDigests(writer: Writer, { metadata, leadership }: Digests): void {
  writer.u64(metadata.position).u32(metadata.hash).u64(leadership.version).u32(leadership.hash)
}

function readDigests(reader: Reader): Digests {
  const metadata = { position: reader.u64(), hash: reader.u32() }
  return { metadata, leadership: { version: reader.u64(), hash: reader.u32() } }
}
