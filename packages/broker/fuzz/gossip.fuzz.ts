// Fuzzes what gossip takes from the network: bytes of messages, sealed bytes, and messages that are whole but say anything. A
// message is read as it was written or refused by name, nothing forged is opened, and a core that hears anything keeps its bounds.
import { SeededRandom } from '@millrace/protocol'
import { SEAL_HEADER_BYTES, SEAL_TAG_BYTES } from '#src/gossip/datagram-size.js'
import { GossipCore } from '#src/gossip/gossip-core.js'
import { GossipError } from '#src/gossip/gossip-error.js'
import { GOSSIP_LIMITS } from '#src/gossip/gossip-limits.js'
import type { Claim, GossipMessage, MemberRecord, MemberState } from '#src/gossip/gossip-types.js'
import { decodeMessage, encodeMessage, isState, messageBytes } from '#src/gossip/message-codec.js'
import { recordOf } from '../test/gossip/gossip-world.js'
import { sealOf } from '../test/gossip/seal-checks.js'
import { mutated } from './bytes.js'

export const name = 'gossip'

const SELF = 1
const MAX_MEMBERS = 12
const STATES: readonly MemberState[] = ['alive', 'suspect', 'dead', 'left']
const EDGES = [0, 1, 2, 2 ** 20, 2 ** 20 + 1, 0x7fff_fffe, 0x7fff_ffff]
const anybody = (): boolean => true

function someNumber(random: SeededRandom): number {
  return random.oneIn(4) ? EDGES[random.below(EDGES.length)]! : random.below(6)
}

function someRecord(random: SeededRandom): MemberRecord {
  const text = 'x'.repeat(random.oneIn(10) ? 64 : random.below(5))
  const host = random.oneIn(10) ? 'h'.repeat(255) : 'host'
  return recordOf(1 + random.below(9), {
    rack: text,
    version: text,
    shards: random.below(65_536),
    client: { host, port: 1 },
  })
}

/** One that a node might make; each of its fields may be odd. */
function someClaim(random: SeededRandom): Claim {
  const state = STATES[random.below(STATES.length)]!
  const [bootId, incarnation] = [Math.max(1, someNumber(random)), someNumber(random)]
  const hasProfile = state === 'alive' || random.oneIn(3)
  const back = state === 'alive' ? 0 : random.below(Math.min(3, incarnation + 1))
  const profile = hasProfile ? { bootId, incarnation: incarnation - back, record: someRecord(random) } : null
  const accusers = state === 'suspect' ? [1 + random.below(9)] : []
  return { nodeId: 1 + random.below(20), bootId, incarnation, state, accusers, profile }
}

function someMessage(random: SeededRandom): GossipMessage {
  const payload = {
    metadata: { position: random.below(4), hash: random.below(2) },
    leadership: { version: random.below(4), hash: random.below(2) },
    updates: Array.from({ length: random.below(5) }, () => someClaim(random)),
  }
  const sequence = random.below(4)
  switch (random.below(7)) {
    case 0:
      return { kind: 'ping', sequence, ...payload }
    case 1:
      return { kind: 'pingRequest', sequence, target: random.below(20), ...payload }
    case 2:
      return { kind: 'ack', sequence, ...payload }
    case 3:
      return { kind: 'nack', sequence, ...payload }
    case 4:
      return { kind: 'gossip', ...payload }
    case 5:
      return { kind: 'stateRequest', ...payload }
    default:
      return { kind: 'stateReply', ...payload }
  }
}

/** What can be read says the same when it is written again. */
function readAnything(random: SeededRandom): void {
  const bytes = mutated(random, encodeMessage(someMessage(random)))
  const message = orRefused(() => decodeMessage(bytes))
  if (message === null) return
  const again = decodeMessage(encodeMessage(message))
  if (JSON.stringify(again) !== JSON.stringify(message)) throw new Error('a message changes when it is written again')
}

function openAnything(random: SeededRandom, parties: Parties): void {
  const message = someMessage(random)
  const whole = parties.sender.seal(message, isState(message) && random.oneIn(3) ? 0 : SELF, 1)
  const bytes = random.oneIn(5) ? random.bytes(random.below(1_500)) : mutated(random, whole)
  const isWhole = bytes.length === whole.length && bytes.every((byte, at) => byte === whole[at])
  const kind = random.oneIn(8) !== isState(message) ? 'state' : 'datagram'
  const opened = orRefused(() => parties.receiver.open(bytes, kind, anybody))
  if (opened !== null && !isWhole) throw new Error('something was opened that nobody has sealed')
}

interface Parties {
  readonly sender: ReturnType<typeof sealOf>['seal']
  readonly receiver: ReturnType<typeof sealOf>['seal']
}

function orRefused<T>(act: () => T): T | null {
  try {
    return act()
  } catch (error) {
    if (error instanceof GossipError) return null
    throw error
  }
}

/** A core that hears anything from anybody stays within its bounds, and says nothing that others would refuse. */
function hearAnything(random: SeededRandom): void {
  const core = new GossipCore({
    nodeId: SELF,
    bootId: 1,
    record: recordOf(SELF),
    seeds: [],
    limits: { ...GOSSIP_LIMITS, maxMembers: MAX_MEMBERS, maxRelays: 4 },
    random: (bound) => random.below(bound),
    registry: random.oneIn(2) ? new Set([1, 2, 3, 4, 5]) : null,
    nowMs: 0,
  })
  let nowMs = 0
  for (let step = 0; step < 30; step++) {
    if (random.oneIn(3)) {
      nowMs += random.oneIn(8) ? random.below(5_000) : GOSSIP_LIMITS.tickMs
      core.tick(nowMs)
    } else core.step(someMessage(random), 1 + random.below(20))
    checkBounds(core)
    for (const effect of core.takeEffects()) {
      if (effect.kind !== 'send' && effect.kind !== 'answer' && effect.kind !== 'exchange') continue
      const { message } = effect
      if (JSON.stringify(decodeMessage(encodeMessage(message))) !== JSON.stringify(message)) {
        throw new Error('the core says something that cannot be written')
      }
      if (isState(message)) continue
      const byteLength = SEAL_HEADER_BYTES + messageBytes(message) + SEAL_TAG_BYTES
      if (byteLength > GOSSIP_LIMITS.datagramBytes) throw new Error(`a datagram of ${byteLength} bytes`)
    }
  }
}

function checkBounds(core: GossipCore): void {
  const members = core.members()
  if (members.length > MAX_MEMBERS) throw new Error(`${members.length} members are remembered`)
  if (core.pendingNews > members.length) throw new Error(`${core.pendingNews} news of ${members.length} members`)
  const own = core.member(SELF)
  if (own?.state !== 'alive') throw new Error('a node believes what others say of it')
}

/** Tries `iterations` inputs drawn from `seed`. @returns how many. @throws when one shows a bug. */
export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  const parties = { sender: sealOf(2).seal, receiver: sealOf(SELF).seal }
  for (let tried = 0; tried < iterations; tried++) {
    const kind = random.below(20)
    if (kind === 0) hearAnything(random)
    else if (kind < 6) openAnything(random, parties)
    else readAnything(random)
  }
  return iterations
}
