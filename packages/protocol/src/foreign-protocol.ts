// Recognises what is often sent to the wrong port, so that the error can name it.

const HTTP_METHODS = ['GET ', 'POST', 'PUT ', 'HEAD', 'DELE', 'OPTI', 'PATC', 'CONN', 'TRAC', 'PRI ']

/**
 * The name of the protocol that the first bytes of a connection belong to, or null when they may be ours. Takes four
 * bytes to tell.
 */
export function nameForeignProtocol(bytes: Uint8Array): string | null {
  if (bytes.length < 4) return null
  // The third byte is TLS's minor version. In a first frame of Millrace it is 0: the length is below 64 KiB.
  if (bytes[1] === 0x03 && bytes[2]! >= 1 && bytes[2]! <= 4) {
    if (bytes[0] === 0x16) return 'a TLS handshake, where plain Millrace is spoken'
    if (bytes[0] === 0x15) return 'a TLS alert; the other side expects TLS'
  }
  const start = String.fromCharCode(bytes[0]!, bytes[1]!, bytes[2]!, bytes[3]!)
  if (HTTP_METHODS.includes(start)) return 'an HTTP request'
  if (start === 'HTTP') return 'an HTTP answer'
  if (start === 'SSH-') return 'SSH'
  return null
}
