// AES-256-GCM by node:crypto.
import { createCipheriv, createDecipheriv } from 'node:crypto'
import type { Crypto } from '../environment.js'

const CIPHER = 'aes-256-gcm'
const TAG_BYTES = 16

export const nodeCrypto: Crypto = {
  seal(key, nonce, additional, plain) {
    const cipher = createCipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
    cipher.setAAD(additional)
    const head = cipher.update(plain)
    const tail = cipher.final()
    return plainBytes(Buffer.concat([head, tail, cipher.getAuthTag()]))
  },
  open(key, nonce, additional, sealed) {
    const end = sealed.byteLength - TAG_BYTES
    if (end < 0) return null
    const decipher = createDecipheriv(CIPHER, key, nonce, { authTagLength: TAG_BYTES })
    decipher.setAAD(additional)
    decipher.setAuthTag(sealed.subarray(end))
    const plain = decipher.update(sealed.subarray(0, end))
    try {
      decipher.final()
    } catch (cause) {
      // Node tells a wrong tag by an error without a code; anything else is a bug.
      if (cause instanceof Error && cause.message.includes('unable to authenticate')) return null
      throw cause
    }
    return plainBytes(plain)
  },
}

/** A Buffer's `slice` shares memory, a Uint8Array's copies: what is handed out is the latter. */
function plainBytes({ buffer, byteOffset, byteLength }: Buffer): Uint8Array {
  return new Uint8Array(buffer, byteOffset, byteLength)
}
