// UTF-8 in both directions. The two globals exist in browsers and in Node; this package takes the types of neither.

declare class TextEncoder {
  encode(text: string): Uint8Array
}
declare class TextDecoder {
  constructor(label: 'utf-8', options: { fatal: boolean })
  decode(bytes: Uint8Array): string
}

const encoder = new TextEncoder()
const decoder = new TextDecoder('utf-8', { fatal: true })

export const encodeText = (text: string): Uint8Array => encoder.encode(text)
/** @throws TypeError when the bytes are not UTF-8. */
export const decodeText = (bytes: Uint8Array): string => decoder.decode(bytes)
