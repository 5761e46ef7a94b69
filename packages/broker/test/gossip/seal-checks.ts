// What a seal has to keep out, whoever implements it; and the keys and messages to try it with.
import { SeededRandom } from '@millrace/protocol'
import type { GossipError, GossipErrorCode } from '#src/gossip/gossip-error.js'
import { GOSSIP_LIMITS } from '#src/gossip/gossip-limits.js'
import type { Datagram, StateMessage } from '#src/gossip/gossip-types.js'
import { type GossipKey, Keyring } from '#src/gossip/keyring.js'
import { GossipSeal } from '#src/gossip/sealing.js'
import { nodeCrypto } from '#src/io/node-crypto.js'

export const CLUSTER = '0123456789abcdef0123456789abcdef'
export const KEY_ONE: GossipKey = { id: 1, secret: new SeededRandom(1).bytes(32) }
export const KEY_TWO: GossipKey = { id: 2, secret: new SeededRandom(2).bytes(32) }

const digests = { metadata: { position: 5, hash: 6 }, leadership: { version: 7, hash: 8 } }
export const PING: Datagram = { kind: 'ping', sequence: 3, ...digests, updates: [] }
export const STATE: StateMessage = { kind: 'stateRequest', ...digests, updates: [] }

export interface SealClasses {
  readonly GossipSeal: typeof GossipSeal
  readonly Keyring: typeof Keyring
}

interface Party {
  readonly keys?: readonly GossipKey[]
  readonly clusterId?: string
  readonly startedMs?: number
}

export function sealOf(nodeId: number, party: Party = {}, classes: SealClasses = { GossipSeal, Keyring }) {
  const random = new SeededRandom(nodeId)
  const keyring = new classes.Keyring(party.keys ?? [KEY_ONE])
  const seal = new classes.GossipSeal({
    crypto: nodeCrypto,
    random: { uint32: () => random.u32(), fill: (bytes) => bytes.set(random.bytes(bytes.length)) },
    clusterId: party.clusterId ?? CLUSTER,
    nodeId,
    keyring,
    startedMs: party.startedMs ?? 1_000,
    datagramBytes: GOSSIP_LIMITS.datagramBytes,
    maxMembers: GOSSIP_LIMITS.maxMembers,
  })
  return { seal, keyring }
}

const anybody = (): boolean => true

/** Why `bytes` were refused, or `taken`. */
export function outcomeOf(
  seal: GossipSeal,
  bytes: Uint8Array,
  kind: 'datagram' | 'state' = 'datagram',
  isMember: (nodeId: number) => boolean = anybody,
): GossipErrorCode | 'taken' {
  try {
    seal.open(bytes, kind, isMember)
    return 'taken'
  } catch (cause) {
    // A planted bug comes with classes of its own.
    if (cause instanceof Error && cause.name === 'GossipError') return (cause as GossipError).code
    throw cause
  }
}

/** @throws when something gets in that must not, or does not get in that must. */
export function checkSeal(classes: SealClasses = { GossipSeal, Keyring }): void {
  const receiver = sealOf(2, {}, classes).seal
  const sender = sealOf(1, {}, classes).seal
  const want = (what: string, wanted: string, found: string): void => {
    if (found !== wanted) throw new Error(`${what}: ${found} instead of ${wanted}`)
  }
  const sent = Array.from({ length: 1_500 }, () => sender.seal(PING, 2, 3))
  want('the first one', 'taken', outcomeOf(receiver, sent[0]!))
  want('the same again', 'REPLAYED', outcomeOf(receiver, sent[0]!))
  want('a later one', 'taken', outcomeOf(receiver, sent[1_200]!))
  want('one that was overtaken', 'taken', outcomeOf(receiver, sent[1_100]!))
  want('that one again', 'REPLAYED', outcomeOf(receiver, sent[1_100]!))
  want('one that is too old to tell', 'REPLAYED', outcomeOf(receiver, sent[10]!))
  const next = sealOf(1, { startedMs: 1 }, classes).seal
  want('the next process, though its clock was put back', 'taken', outcomeOf(receiver, next.seal(PING, 2, 4)))
  want('the process before it', 'REPLAYED', outcomeOf(receiver, sent[1_400]!))
  want('one for somebody else', 'MISDIRECTED', outcomeOf(receiver, sender.seal(PING, 7, 9)))
  want('one of its own', 'STRANGER', outcomeOf(receiver, sealOf(2, {}, classes).seal.seal(PING, 2, 9)))
  want(
    'one of a removed node',
    'STRANGER',
    outcomeOf(receiver, sealOf(9, {}, classes).seal.seal(PING, 2, 1), 'datagram', (id) => id < 9),
  )
  want('a state where a datagram is due', 'VERSION', outcomeOf(receiver, sender.seal(STATE, 2, 9)))
  want('a state', 'taken', outcomeOf(receiver, sender.seal(STATE, 2, 9), 'state'))
  want('a state for anyone', 'taken', outcomeOf(receiver, sender.seal(STATE, 0, 9), 'state'))
  want('another key', 'UNKNOWN_KEY', outcomeOf(receiver, sealOf(3, { keys: [KEY_TWO] }, classes).seal.seal(PING, 2, 1)))
  const liar = { id: 1, secret: KEY_TWO.secret }
  want(
    'another key under the same id',
    'FORGED',
    outcomeOf(receiver, sealOf(3, { keys: [liar] }, classes).seal.seal(PING, 2, 1)),
  )
  const foreign = sealOf(3, { clusterId: 'f'.repeat(32) }, classes).seal
  want('another cluster', 'FORGED', outcomeOf(receiver, foreign.seal(PING, 2, 1)))
  want('too short', 'SIZE', outcomeOf(receiver, sent[0]!.subarray(0, 51)))
  want('too long', 'SIZE', outcomeOf(receiver, new Uint8Array(1_401)))
  checkBits(receiver, sealOf(4, {}, classes).seal.seal(PING, 2, 1), want)
}

/** Not one bit may be changed, and a changed one shuts nobody out. */
function checkBits(
  receiver: GossipSeal,
  bytes: Uint8Array,
  want: (what: string, wanted: string, found: string) => void,
) {
  for (let at = 0; at < bytes.length; at++) {
    const changed = bytes.slice()
    changed[at]! ^= 1 << (at % 8)
    if (outcomeOf(receiver, changed) === 'taken') want(`byte ${at} changed`, 'refused', 'taken')
  }
  want('the unchanged one afterwards', 'taken', outcomeOf(receiver, bytes))
}
