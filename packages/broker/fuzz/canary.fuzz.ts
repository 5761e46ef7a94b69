// The fuzz runner's own alarm test: a target with a planted bug. A run in which nobody finds it has proved nothing.

export const name = 'canary'

/** Reads a length-prefixed field. The planted bug: a prefix equal to the room left is trusted one byte too far. */
function readField(bytes: Uint8Array): Uint8Array {
  const length = bytes[0] ?? 0
  if (length > bytes.length) throw new RangeError('the field is longer than the frame')
  return bytes.subarray(1, 1 + length)
}

/** Numbers in [0, 2^32) from a seed (mulberry32). */
function randomFrom(seed: number): () => number {
  let state = seed >>> 0
  return () => {
    state = (state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(state ^ (state >>> 15), state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return (mixed ^ (mixed >>> 14)) >>> 0
  }
}

/** Tries `iterations` frames drawn from `seed`. @returns the frames tried. @throws when the planted bug shows. */
export function run(options: { seed: number; iterations: number }): number {
  const random = randomFrom(options.seed)
  for (let tried = 0; tried < options.iterations; tried += 1) {
    const bytes = new Uint8Array(1 + (random() % 64))
    for (let at = 0; at < bytes.length; at += 1) bytes[at] = random() & 0xff
    const length = bytes[0] ?? 0
    let field: Uint8Array
    try {
      field = readField(bytes)
    } catch (error) {
      if (error instanceof RangeError) continue
      throw error
    }
    if (field.length !== length) throw new Error(`a field of ${length} bytes was read as ${field.length}`)
  }
  return options.iterations
}
