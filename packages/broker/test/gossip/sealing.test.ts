// Seals, keys and codec: what gets in, what does not, and the bytes for good.
import { describe, expect, test } from 'vitest'
import { claimBytes } from '#src/gossip/claim-codec.js'
import { GossipError } from '#src/gossip/gossip-error.js'
import type { Claim, GossipMessage } from '#src/gossip/gossip-types.js'
import { Keyring } from '#src/gossip/keyring.js'
import { decodeMessage, encodeMessage, messageBytes } from '#src/gossip/message-codec.js'
import { SourceLimit } from '#src/gossip/source-limit.js'
import { recordOf } from './gossip-world.js'
import { checkSeal, KEY_ONE, KEY_TWO, outcomeOf, PING, sealOf } from './seal-checks.js'

const ALIVE: Claim = {
  nodeId: 7,
  bootId: 2,
  incarnation: 5,
  state: 'alive',
  accusers: [],
  profile: { bootId: 2, incarnation: 5, record: recordOf(7) },
}
const SUSPECT: Claim = { nodeId: 8, bootId: 1, incarnation: 0, state: 'suspect', accusers: [2, 3], profile: null }
const payload = { metadata: { position: 5, hash: 6 }, leadership: { version: 7, hash: 8 }, updates: [ALIVE, SUSPECT] }
const MESSAGES: readonly GossipMessage[] = [
  { kind: 'ping', sequence: 9, ...payload },
  { kind: 'pingRequest', sequence: 9, target: 4, ...payload },
  { kind: 'ack', sequence: 9, ...payload },
  { kind: 'nack', sequence: 9, ...payload },
  { kind: 'gossip', ...payload },
  { kind: 'stateRequest', ...payload },
  { kind: 'stateReply', ...payload },
]

describe('bytes', () => {
  test.each(MESSAGES)('$kind survives, and is refused cut off anywhere', (message) => {
    const bytes = encodeMessage(message)
    expect(decodeMessage(bytes)).toEqual(message)
    for (let length = 0; length < bytes.length; length++) {
      expect(() => decodeMessage(bytes.subarray(0, length))).toThrow(GossipError)
    }
    expect(() => decodeMessage(new Uint8Array([...bytes, 0]))).toThrow('1 bytes behind the last claim')
  })

  test('they are counted before they are written', () => {
    for (const message of MESSAGES) expect(messageBytes(message)).toBe(encodeMessage(message).length)
    expect(claimBytes(SUSPECT)).toBe(14 + 2 * 4)
  })

  test('golden', () => {
    const hex = Buffer.from(encodeMessage({ kind: 'ping', sequence: 9, ...payload })).toString('hex')
    expect(hex).toBe(GOLDEN)
  })

  test('a claim that no node would make is refused', () => {
    const odd = (claim: Partial<Claim>): GossipMessage => ({
      kind: 'gossip',
      ...payload,
      updates: [{ ...SUSPECT, ...claim }],
    })
    for (const claim of [
      { nodeId: 0 },
      { bootId: 0 },
      { bootId: 0x8000_0000 },
      { state: 'dead' as const },
      { state: 'alive' as const },
    ]) {
      expect(() => decodeMessage(encodeMessage(odd(claim)))).toThrow('a claim that contradicts itself')
    }
  })
})

describe('seals', () => {
  test('keep out what is old, changed, foreign or for somebody else', () => {
    checkSeal()
  })

  test('a key is changed without a moment in which two nodes do not understand each other', () => {
    const one = sealOf(1)
    const two = sealOf(2)
    const understand = (): void => {
      expect(outcomeOf(two.seal, one.seal.seal(PING, 2, 1))).toBe('taken')
      expect(outcomeOf(one.seal, two.seal.seal(PING, 1, 1))).toBe('taken')
    }
    const steps = [
      (ring: Keyring) => ring.install(KEY_TWO),
      (ring: Keyring) => ring.use(KEY_TWO.id),
      (ring: Keyring) => ring.remove(KEY_ONE.id),
    ]
    for (const step of steps) {
      for (const { keyring } of [one, two]) {
        understand()
        step(keyring)
      }
    }
    understand()
    expect(outcomeOf(two.seal, sealOf(3).seal.seal(PING, 2, 1))).toBe('UNKNOWN_KEY')
  })

  test('a node that a cut has kept from a change of keys is not understood until it has caught up', () => {
    const one = sealOf(1, { keys: [KEY_TWO] })
    const late = sealOf(2)
    expect(outcomeOf(late.seal, one.seal.seal(PING, 2, 1))).toBe('UNKNOWN_KEY')
    expect(outcomeOf(one.seal, late.seal.seal(PING, 1, 1))).toBe('UNKNOWN_KEY')
    late.keyring.install(KEY_TWO)
    expect(outcomeOf(late.seal, one.seal.seal(PING, 2, 1))).toBe('taken')
    late.keyring.use(KEY_TWO.id)
    expect(outcomeOf(one.seal, late.seal.seal(PING, 1, 1))).toBe('taken')
  })

  test('a keyring refuses what would lock somebody out', () => {
    const ring = new Keyring([KEY_ONE, KEY_TWO])
    expect(ring.ids).toEqual([1, 2])
    expect(() => ring.install({ id: 3, secret: KEY_ONE.secret })).toThrow('remove the older one first')
    expect(() => ring.install({ id: 1, secret: KEY_TWO.secret })).toThrow('another key has the id 1')
    expect(() => ring.remove(1)).toThrow('in use')
    expect(() => ring.use(9)).toThrow('not installed')
    expect(() => new Keyring([{ id: 1, secret: new Uint8Array(16) }])).toThrow('32 bytes')
    ring.install(KEY_ONE)
    ring.use(2)
    ring.remove(1)
    expect(ring.ids).toEqual([2])
  })

  test('a flood of strangers is cut off, and members are heard all the same', () => {
    const limit = new SourceLimit(0)
    limit.prove('member', 0)
    let allowed = 0
    for (let i = 0; i < 5_000; i++) if (limit.allows(`stranger-${i}`, 10)) allowed++
    expect(allowed).toBe(500)
    expect(limit.allows('member', 10)).toBe(true)
    expect(limit.allows('stranger-0', 1_100)).toBe(true)
    expect(limit.allows('member', 70_000)).toBe(true)
  })
})

const GOLDEN =
  '0009000000000000000500000000000000060000000700000000000000080000000207000000020000000500000004000200000005000000390006006e6f64652d37fc1c06006e6f64652d37fc1c020006007261636b2d310500302e312e3000000000000000000010a5d4e80000000000000008000000010000000000000001020200000003000000'
