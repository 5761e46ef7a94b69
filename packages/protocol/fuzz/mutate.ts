// Changes bytes the way damage, bugs and attackers do.
import type { SeededRandom } from '@millrace/protocol'

/** Numbers that code gets wrong: limits of types, and one beside them. */
const EDGES = [
  0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
]

/** A changed copy of `input`; now and then an unchanged one. `others` lend pieces of themselves. */
export function mutate(random: SeededRandom, input: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  let bytes: Uint8Array = input.slice()
  for (let changes = random.below(5); changes > 0; changes--) bytes = mutateOnce(random, bytes, others)
  return bytes
}

function mutateOnce(random: SeededRandom, bytes: Uint8Array, others: readonly Uint8Array[]): Uint8Array {
  const at = random.below(bytes.length + 1)
  switch (random.below(8)) {
    case 0:
      return bytes.slice(0, at)
    case 1:
      return spliced(bytes, at, at, random.bytes(random.below(16)))
    case 2:
      return spliced(bytes, at, Math.min(bytes.length, at + random.below(16)), new Uint8Array(0))
    case 3: {
      const other = others[random.below(others.length)] ?? bytes
      const from = random.below(other.length + 1)
      return spliced(bytes, at, at, other.subarray(from, from + random.below(64)))
    }
    case 4:
    case 5:
      return withNumber(random, bytes, at)
    case 6:
      if (at < bytes.length) bytes[at] = random.below(256)
      return bytes
    default:
      if (at < bytes.length) bytes[at]! ^= 1 << random.below(8)
      return bytes
  }
}

function spliced(bytes: Uint8Array, from: number, to: number, piece: Uint8Array): Uint8Array {
  const result = new Uint8Array(bytes.length - (to - from) + piece.length)
  result.set(bytes.subarray(0, from))
  result.set(piece, from)
  result.set(bytes.subarray(to), from + piece.length)
  return result
}

/** Puts an edge, or a number close to the one that is there, where a u16 or u32 may stand. */
function withNumber(random: SeededRandom, bytes: Uint8Array, at: number): Uint8Array {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  const size = random.oneIn(2) ? 2 : 4
  if (at + size > bytes.length) return bytes
  const known = size === 2 ? view.getUint16(at, true) : view.getUint32(at, true)
  const value = random.oneIn(2) ? EDGES[random.below(EDGES.length)]! : known + random.below(5) - 2
  if (size === 2) view.setUint16(at, value & 0xffff, true)
  else view.setUint32(at, value >>> 0, true)
  return bytes
}
