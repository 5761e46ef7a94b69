// Unpacks gzip, bounded, for tools that look into records; a broker itself never decodes what it stores.
import { gunzipSync } from 'node:zlib'

/** @throws Error for bytes that are not gzip, or unpack to more than `maxBytes`. */
export function gunzip(bytes: Uint8Array, maxBytes: number): Uint8Array {
  return gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) })
}
