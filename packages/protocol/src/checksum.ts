// CRC-32 (IEEE 802.3, reflected, polynomial 0xEDB88320), the one checksum of wire and disk.
// This table version runs everywhere; faster ones (zlib.crc32, carry-less multiply) have the same signature.

/**
 * Computes or continues a CRC-32.
 * @param seed 0 to begin, or the result over the bytes before these.
 * Over no bytes the result is the seed. (`zlib.crc32` returns 0 then: keep empty ranges away from it.)
 * @returns an unsigned 32-bit integer.
 */
export type ChecksumFunction = (bytes: Uint8Array, seed: number) => number

const TABLES = 8

/** Eight tables of 256 entries, end to end: slicing-by-8 after Kounavis and Berry (Intel, 2005). */
function makeTables(): Int32Array {
  // Signed, since that is what bit operations yield: no entry has to become a floating-point number.
  const tables = new Int32Array(TABLES * 256)
  for (let n = 0; n < 256; n++) {
    let c = n
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1
    tables[n] = c
  }
  for (let n = 0; n < 256; n++) {
    let c = tables[n]!
    for (let slice = 1; slice < TABLES; slice++) {
      c = tables[c & 0xff]! ^ (c >>> 8)
      tables[slice * 256 + n] = c
    }
  }
  return tables
}

const T = makeTables()

export const crc32: ChecksumFunction = (bytes, seed) => {
  let crc = ~seed
  let i = 0
  const sliced = bytes.length - (bytes.length % 8)
  for (; i < sliced; i += 8) {
    const low = crc ^ (bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24))
    crc =
      T[1792 + (low & 0xff)]! ^
      T[1536 + ((low >>> 8) & 0xff)]! ^
      T[1280 + ((low >>> 16) & 0xff)]! ^
      T[1024 + (low >>> 24)]! ^
      T[768 + bytes[i + 4]!]! ^
      T[512 + bytes[i + 5]!]! ^
      T[256 + bytes[i + 6]!]! ^
      T[bytes[i + 7]!]!
  }
  for (; i < bytes.length; i++) crc = T[(crc ^ bytes[i]!) & 0xff]! ^ (crc >>> 8)
  return ~crc >>> 0
}
