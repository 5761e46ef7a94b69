// Unpacks compressed bodies, bounded, for tools that look into records; a broker itself never decodes what it stores.
import * as zlib from 'node:zlib'
import type { CodecName } from '@millrace/protocol'

/** Node has it from 22.15 and 23.8 on. */
const { zstdDecompressSync } = zlib as {
  readonly zstdDecompressSync?: (bytes: Uint8Array, options: { readonly maxOutputLength: number }) => Uint8Array
}

/**
 * Null for a codec that this runtime does not have.
 * @throws Error for bytes that are not what the codec makes, or unpack to more than `maxBytes`.
 */
export function unpack(bytes: Uint8Array, maxBytes: number, codec: CodecName): Uint8Array | null {
  const options = { maxOutputLength: Math.max(1, maxBytes) }
  if (codec === 'gzip') return zlib.gunzipSync(bytes, options)
  if (codec === 'zstd') return zstdDecompressSync?.(bytes, options) ?? null
  return bytes
}
