// Changes bytes the way damage, bugs and attackers do.
import type { SeededRandom } from '@millrace/protocol'

/** Numbers that code gets wrong: limits of types, and one beside them. */
const EDGES = [
  0, 1, 2, 0x7f, 0x80, 0xff, 0x100, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xfffffffe, 0xffffffff,
]

/** A changed copy of `input`; now and then an unchanged one. */
export function mutated(random: SeededRandom, input: Uint8Array): Uint8Array {
  let bytes: Uint8Array = input.slice()
  for (let changes = random.below(4); changes > 0; changes--) bytes = mutatedOnce(random, bytes)
  return bytes
}

function mutatedOnce(random: SeededRandom, bytes: Uint8Array): Uint8Array {
  const at = random.below(bytes.length + 1)
  switch (random.below(6)) {
    case 0:
      return bytes.slice(0, at)
    case 1:
      return concat([bytes.subarray(0, at), random.bytes(random.below(16)), bytes.subarray(at)])
    case 2:
      return concat([bytes.subarray(0, at), bytes.subarray(Math.min(bytes.length, at + random.below(16)))])
    case 3:
    case 4:
      return withNumber(random, bytes, at)
    default:
      if (at < bytes.length) bytes[at]! ^= 1 << random.below(8)
      return bytes
  }
}

export function concat(pieces: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(pieces.reduce((sum, piece) => sum + piece.length, 0))
  let at = 0
  for (const piece of pieces) {
    bytes.set(piece, at)
    at += piece.length
  }
  return bytes
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
