// Room for encoded keys and values until they are copied into a batch, so that encoding a record allocates nothing.

const CHUNK_BYTES = 64 * 1024
/** Above this length the platform's encoder beats a loop over the characters (measured on Node 20). */
const LOOP_LENGTH = 16

const encoder = new TextEncoder()

/** Views handed out stay valid until `reset`. */
export class Scratch {
  #bytes = new Uint8Array(CHUNK_BYTES)
  #at = 0

  /** Allows the room handed out so far to be used again. */
  reset(): void {
    this.#at = 0
  }

  /** The UTF-8 bytes of a text. */
  text(text: string): Uint8Array {
    const { length } = text
    if (length * 3 > CHUNK_BYTES) return encoder.encode(text)
    this.#reserve(length * 3)
    const at = this.#at
    if (length <= LOOP_LENGTH && this.#ascii(text, at)) this.#at = at + length
    else this.#at = at + encoder.encodeInto(text, this.#bytes.subarray(at)).written
    return this.#bytes.subarray(at, this.#at)
  }

  #ascii(text: string, at: number): boolean {
    const bytes = this.#bytes
    for (let i = 0; i < text.length; i++) {
      const code = text.charCodeAt(i)
      if (code > 127) return false
      bytes[at + i] = code
    }
    return true
  }

  /** What was handed out before stays where it is: a new chunk is taken, the old one lives as long as its views. */
  #reserve(byteLength: number): void {
    if (this.#at + byteLength <= this.#bytes.length) return
    this.#bytes = new Uint8Array(CHUNK_BYTES)
    this.#at = 0
  }
}
