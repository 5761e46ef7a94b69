// One claim as bytes, in datagrams as in whole states:
//
//   nodeId u32 | bootId u32 | incarnation u32 | flags u8 | accusers u8 | nodeId u32 each | profile?
//   flags: bits 0 and 1 the state (alive, suspect, dead, left), bit 2: there is a profile
//   profile: bootId u32 | incarnation u32 | length u16 of what follows | client host string, port u16 | peer host string,
//            port u16 | shards u16 | rack string | version string | bytesPerSecond u64 | freeDiskBytes u64 | partitionsLed u32
//
// A newer version may add fields to the end of a profile; they are skipped.
import { assert, ProtocolError, type Reader, Writer } from '@millrace/protocol'
import { isValidClaim } from './claims.js'
import { MAX_VERSION } from './gossip-limits.js'
import type { Address, Claim, MemberRecord, MemberState, Profile } from './gossip-types.js'

const STATES: readonly MemberState[] = ['alive', 'suspect', 'dead', 'left']
const HAS_PROFILE = 4
const MAX_HOST_BYTES = 255
const MAX_TEXT_BYTES = 64
/** More than any limit on accusers; more in one claim is nonsense. */
const MAX_ACCUSERS = 16
/** Without accusers and profile. */
export const MIN_CLAIM_BYTES = 14

const encoder = new TextEncoder()

export function writeClaim(writer: Writer, claim: Claim): Writer {
  const { nodeId, bootId, incarnation, state, accusers, profile } = claim
  writer.u32(nodeId).u32(bootId).u32(incarnation)
  writer.u8(STATES.indexOf(state) | (profile === null ? 0 : HAS_PROFILE)).u8(accusers.length)
  for (const accuser of accusers) writer.u32(accuser)
  if (profile !== null) writeProfile(writer, profile)
  return writer
}

function writeProfile(writer: Writer, { bootId, incarnation, record }: Profile): void {
  const { client, peer, shards, rack, version, load } = record
  writer.u32(bootId).u32(incarnation)
  writer.fixed(() => {
    writer.string(client.host).u16(client.port).string(peer.host).u16(peer.port)
    writer.u16(shards).string(rack).string(version)
    writer.u64(load.bytesPerSecond).u64(load.freeDiskBytes).u32(load.partitionsLed)
  })
}

/** @throws ProtocolError CORRUPT_FRAME for anything that no node would say. */
export function readClaim(reader: Reader): Claim {
  const nodeId = reader.u32()
  const bootId = reader.u32()
  const incarnation = reader.u32()
  const flags = reader.u8()
  const state = STATES[flags & 3]
  const accusers = reader.list(reader.u8(), 4, MAX_ACCUSERS, () => reader.u32())
  if (state === undefined || flags > (3 | HAS_PROFILE)) throw corrupt(`the flags ${flags} of a claim`)
  const profile = (flags & HAS_PROFILE) === 0 ? null : readProfile(reader)
  const claim = { nodeId, bootId, incarnation, state, accusers, profile }
  if (nodeId === 0 || bootId === 0 || bootId > MAX_VERSION || incarnation > MAX_VERSION || !isValidClaim(claim)) {
    throw corrupt(`a claim that contradicts itself, of node ${nodeId}`)
  }
  return claim
}

function readProfile(reader: Reader): Profile {
  const bootId = reader.u32()
  const incarnation = reader.u32()
  const record = reader.fixed(
    (): MemberRecord => ({
      client: readAddress(reader),
      peer: readAddress(reader),
      shards: reader.u16(),
      rack: readText(reader, MAX_TEXT_BYTES),
      version: readText(reader, MAX_TEXT_BYTES),
      load: { bytesPerSecond: reader.u64(), freeDiskBytes: reader.u64(), partitionsLed: reader.u32() },
    }),
  )
  return { bootId, incarnation, record }
}

function readAddress(reader: Reader): Address {
  return { host: readText(reader, MAX_HOST_BYTES), port: reader.u16() }
}

function readText(reader: Reader, mostBytes: number): string {
  const before = reader.position
  const text = reader.string()
  const byteLength = reader.position - before - 2
  if (byteLength > mostBytes) throw corrupt(`a text of ${byteLength} bytes where ${mostBytes} are the most`)
  return text
}

function corrupt(what: string): ProtocolError {
  return new ProtocolError('CORRUPT_FRAME', what)
}

const scratch = new Writer(1_024)

/** Profiles are passed on as they came, again and again. */
const profileBytes = new WeakMap<Profile, number>()

export function claimBytes({ accusers, profile }: Claim): number {
  return MIN_CLAIM_BYTES + accusers.length * 4 + (profile === null ? 0 : lengthOf(profile))
}

function lengthOf(profile: Profile): number {
  let length = profileBytes.get(profile)
  if (length === undefined) {
    writeProfile(scratch.clear(), profile)
    length = scratch.length
    profileBytes.set(profile, length)
  }
  return length
}

/** @throws AssertionError when a node would say something of itself that the others refuse to read. */
export function assertRecord({ client, peer, rack, version }: MemberRecord): void {
  for (const { host, port } of [client, peer]) {
    assert(fits(host, MAX_HOST_BYTES) && host !== '', `a host has from 1 to ${MAX_HOST_BYTES} bytes`)
    assert(Number.isInteger(port) && port > 0 && port < 65_536, `a port is from 1 to 65535, not ${port}`)
  }
  for (const text of [rack, version]) assert(fits(text, MAX_TEXT_BYTES), `a text of more than ${MAX_TEXT_BYTES} bytes`)
}

const fits = (text: string, mostBytes: number): boolean => encoder.encode(text).length <= mostBytes
