// Messages of gossip sealed with the key of the cluster, and opened: nothing that comes from outside gets further than this.
//
//   magic u16 | version u8 | class u8 (1 datagram, 2 state) | key id u32 | sender u32 | receiver u32 (0: anyone; states only) |
//   boot id u32 | counter u64 | prefix 8 bytes | encrypted message | tag 16 bytes
//
// AES-256-GCM; the nonce is the prefix, drawn by the process, and the lower half of the counter. Additional data are the id of
// the cluster and everything in front of the encrypted part. Counters of a process begin at its wall clock, so that one whose
// data directory was put back is not taken for an echo of its former self.
import { assert, Reader, Writer } from '@millrace/protocol'
import type { Crypto, Random } from '../environment.js'
import { SEAL_HEADER_BYTES, SEAL_TAG_BYTES } from './datagram-size.js'
import { GossipError } from './gossip-error.js'
import type { GossipMessage, NodeId } from './gossip-types.js'
import type { Keyring } from './keyring.js'
import { decodeMessage, encodeMessage, isState } from './message-codec.js'
import { ReplayWindow } from './replay-window.js'

const MAGIC = 0x474d
const VERSION = 1
const DATAGRAM = 1
const STATE = 2
const PREFIX_BYTES = 8
const MAX_STATE_BYTES = 16 * 1024 * 1024
const MAX_STATE_BYTES_PER_MEMBER = 4 * 1024
/** Half of what the lower half of the counter can tell apart under one prefix. */
const SEALS_PER_PREFIX = 2 ** 31
const COUNTERS_PER_MS = 1_024

export interface SealOptions {
  readonly crypto: Crypto
  readonly random: Random
  /** 32 hexadecimal digits. */
  readonly clusterId: string
  readonly nodeId: NodeId
  readonly keyring: Keyring
  /** By the wall clock, when this process began. */
  readonly startedMs: number
  readonly datagramBytes: number
  readonly maxMembers: number
}

export interface Opened {
  readonly from: NodeId
  readonly message: GossipMessage
}

interface Header {
  readonly isState: boolean
  readonly keyId: number
  readonly from: NodeId
  readonly to: NodeId
  readonly bootId: number
  readonly counter: number
  readonly prefix: Uint8Array
}

export class GossipSeal {
  private readonly windows = new Map<NodeId, ReplayWindow>()
  private readonly prefix = new Uint8Array(PREFIX_BYTES)
  private sealsLeft = 0
  private counter: number
  private readonly cluster: Uint8Array

  constructor(private readonly options: SealOptions) {
    this.counter = Math.floor(options.startedMs) * COUNTERS_PER_MS
    this.cluster = new Writer(16).uuid(options.clusterId).written()
  }

  /** @param to 0 for whoever gets it: a state for a node that is not known yet. @param bootId of this process. */
  seal(message: GossipMessage, to: NodeId, bootId: number): Uint8Array {
    const { crypto, random, nodeId, keyring, datagramBytes } = this.options
    assert(to !== 0 || isState(message), 'a datagram is for one node')
    if (this.sealsLeft === 0) {
      random.fill(this.prefix)
      this.sealsLeft = SEALS_PER_PREFIX
    }
    this.sealsLeft--
    this.counter++
    const { used } = keyring
    const header = new Writer(SEAL_HEADER_BYTES).u16(MAGIC).u8(VERSION)
    header
      .u8(isState(message) ? STATE : DATAGRAM)
      .u32(used.id)
      .u32(nodeId)
      .u32(to)
      .u32(bootId)
    const front = header.u64(this.counter).bytes(this.prefix).written()
    const nonce = nonceOf(this.prefix, this.counter)
    const sealed = crypto.seal(used.secret, nonce, this.additional(front), encodeMessage(message))
    const bytes = new Uint8Array(front.length + sealed.length)
    bytes.set(front)
    bytes.set(sealed, front.length)
    assert(isState(message) || bytes.length <= datagramBytes, `a datagram of ${bytes.length} bytes`)
    return bytes
  }

  /**
   * @param isMember whether a node may speak; asked before anything is decrypted.
   * @throws GossipError of every code but KEY. What was refused has changed nothing.
   */
  open(bytes: Uint8Array, kind: 'datagram' | 'state', isMember: (nodeId: NodeId) => boolean): Opened {
    this.checkSize(bytes, kind)
    const header = readHeader(bytes)
    const { from, bootId, counter } = header
    const key = this.checkHeader(header, kind, isMember)
    const window = this.windows.get(from)
    // A state says nothing that is wrong when it is old, and may tell a node that starts anew which boot id it had.
    const isCounted = !header.isState
    if (isCounted && window?.isFresh(bootId, counter) === false) {
      throw new GossipError('REPLAYED', `node ${from} has sent ${bootId}/${counter} before`)
    }
    const front = bytes.subarray(0, SEAL_HEADER_BYTES)
    const nonce = nonceOf(header.prefix, counter)
    const plain = this.options.crypto.open(key, nonce, this.additional(front), bytes.subarray(SEAL_HEADER_BYTES))
    if (plain === null) throw new GossipError('FORGED', `not sealed by a node of this cluster, though it names ${from}`)
    const message = decodeMessage(plain)
    if (isState(message) !== header.isState) throw new GossipError('CORRUPT', `a ${message.kind} is not of this class`)
    if (isCounted) (window ?? this.addWindow(from)).accept(bootId, counter)
    return { from, message }
  }

  private checkSize(bytes: Uint8Array, kind: 'datagram' | 'state'): void {
    const { datagramBytes, maxMembers } = this.options
    const stateBytes = Math.min(MAX_STATE_BYTES, maxMembers * MAX_STATE_BYTES_PER_MEMBER)
    const most = kind === 'datagram' ? datagramBytes : stateBytes
    const least = SEAL_HEADER_BYTES + SEAL_TAG_BYTES
    if (bytes.length >= least && bytes.length <= most) return
    throw new GossipError('SIZE', `a ${kind} of ${bytes.length} bytes, where ${least} to ${most} are allowed`)
  }

  /** @returns the secret of the key. */
  private checkHeader(header: Header, kind: 'datagram' | 'state', isMember: (nodeId: NodeId) => boolean): Uint8Array {
    const { from, to, keyId } = header
    if (header.isState !== (kind === 'state')) throw new GossipError('VERSION', `no ${kind}`)
    const isForAnyone = to === 0 && header.isState
    if (to !== this.options.nodeId && !isForAnyone) throw new GossipError('MISDIRECTED', `it is for node ${to}`)
    if (from === 0 || from === this.options.nodeId || !isMember(from)) {
      throw new GossipError('STRANGER', `node ${from} is no other member of the cluster`)
    }
    const key = this.options.keyring.find(keyId)
    if (key === undefined) throw new GossipError('UNKNOWN_KEY', `node ${from} seals with the key ${keyId}`)
    return key.secret
  }

  private additional(front: Uint8Array): Uint8Array {
    const bytes = new Uint8Array(this.cluster.length + front.length)
    bytes.set(this.cluster)
    bytes.set(front, this.cluster.length)
    return bytes
  }

  private addWindow(from: NodeId): ReplayWindow {
    const [oldest] = this.windows.keys()
    if (this.windows.size >= this.options.maxMembers && oldest !== undefined) this.windows.delete(oldest)
    const window = new ReplayWindow()
    this.windows.set(from, window)
    return window
  }
}

/** The length was checked before. @throws GossipError VERSION */
function readHeader(bytes: Uint8Array): Header {
  const reader = new Reader(bytes)
  const magic = reader.u16()
  const version = reader.u8()
  const kind = reader.u8()
  if (magic !== MAGIC || version !== VERSION || (kind !== DATAGRAM && kind !== STATE)) {
    throw new GossipError('VERSION', `not gossip of version ${VERSION}`)
  }
  const [keyId, from, to, bootId] = [reader.u32(), reader.u32(), reader.u32(), reader.u32()]
  const [low, high] = [reader.u32(), reader.u32()]
  const counter = high * 2 ** 32 + low
  if (!Number.isSafeInteger(counter)) throw new GossipError('VERSION', 'a counter above 2^53')
  return { isState: kind === STATE, keyId, from, to, bootId, counter, prefix: reader.bytes(PREFIX_BYTES) }
}

function nonceOf(prefix: Uint8Array, counter: number): Uint8Array {
  return new Writer(12)
    .bytes(prefix)
    .u32(counter % 2 ** 32)
    .written()
}
