// Changes bytes the way damage, bugs and attackers do.
import type { SeededRandom } from '@millrace/protocol'

const EDGES = [0, 1, 0x7f, 0x80, 0xff, 0x7fff, 0xffff, 0x10000, 0x7fffffff, 0x80000000, 0xffffffff]

/** A changed copy of `input`. */
export function mutate(random: SeededRandom, input: Uint8Array): Uint8Array {
  let bytes: Uint8Array = input.slice()
  for (let changes = 1 + random.below(3); changes > 0 && bytes.length > 0; changes--) {
    const at = random.below(bytes.length)
    switch (random.below(5)) {
      case 0:
        bytes = bytes.slice(0, at)
        break
      case 1:
        bytes = new Uint8Array([...bytes.subarray(0, at), ...random.bytes(random.below(9)), ...bytes.subarray(at)])
        break
      case 2:
        bytes[at]! ^= 1 << random.below(8)
        break
      default: {
        const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
        const value = random.oneIn(2) ? EDGES[random.below(EDGES.length)]! : random.u32()
        if (at + 4 <= bytes.length) view.setUint32(at, value, true)
      }
    }
  }
  return bytes
}
