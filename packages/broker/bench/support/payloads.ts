// Values that look like data: a pool of a thousand, half random bytes and half repeated ones, drawn from a fixed seed.

const POOL = 1000

export function payloadPool(byteLength: number): readonly Uint8Array[] {
  let state = 0x9e3779b9
  const next = (): number => {
    state ^= state << 13
    state ^= state >>> 17
    state ^= state << 5
    return state >>> 0
  }
  return Array.from({ length: POOL }, () => {
    const bytes = new Uint8Array(byteLength).fill(0x61)
    for (let i = 0; i < byteLength / 2; i++) bytes[i] = next() & 0xff
    return bytes
  })
}

export function keyPool(count: number): readonly Uint8Array[] {
  return Array.from({ length: count }, (_, i) => new TextEncoder().encode(`key-${i}`))
}
