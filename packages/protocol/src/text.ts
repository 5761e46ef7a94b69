// UTF-8 in both directions. The two globals exist in browsers and in Node; this package takes the types of neither.

declare class TextEncoder {
  encode(text: string): Uint8Array
}
declare class TextDecoder {
  constructor(label: 'utf-8', options: { fatal: boolean; ignoreBOM: boolean })
  decode(bytes: Uint8Array): string
}

// A byte order mark is a character like any other: what was encoded comes back.
const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true })

export const encodeText = (text: string): Uint8Array => encoder.encode(text)
/** @throws TypeError when the bytes are not UTF-8. */
export const decodeText = (bytes: Uint8Array): string => decoder.decode(bytes)

/** Whether `decodeText` would take the bytes from `start` to `end`, found out without making a string. */
export function isText(bytes: Uint8Array, start: number, end: number): boolean {
  let at = start
  while (at < end) {
    const first = bytes[at++]!
    if (first < 0x80) continue
    const more = first >= 0xf0 ? 3 : first >= 0xe0 ? 2 : 1
    if (first < 0xc2 || first > 0xf4 || at + more > end) return false
    // The second byte decides about overlong forms, surrogates and what lies beyond U+10FFFF (Unicode, table 3-7).
    const low = first === 0xe0 ? 0xa0 : first === 0xf0 ? 0x90 : 0x80
    const high = first === 0xed ? 0x9f : first === 0xf4 ? 0x8f : 0xbf
    if (bytes[at]! < low || bytes[at]! > high) return false
    for (let i = 1; i < more; i++) if ((bytes[at + i]! & 0xc0) !== 0x80) return false
    at += more
  }
  return true
}
