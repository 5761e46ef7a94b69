// Recognises what is often sent to the wrong port, so that the error can name it.

const HTTP_METHODS = ['GET ', 'POST', 'PUT ', 'HEAD', 'DELE', 'OPTI', 'PATC', 'CONN', 'TRAC', 'PRI ']

/** The name of the protocol that the first bytes of a connection belong to, or null when they may be ours. */
export function nameForeignProtocol(bytes: Uint8Array): string | null {
  if (bytes.length < 4) return null
  if (bytes[0] === 0x16 && bytes[1] === 0x03) return 'a TLS handshake; this port speaks plain Millrace'
  const start = String.fromCharCode(bytes[0]!, bytes[1]!, bytes[2]!, bytes[3]!)
  if (HTTP_METHODS.includes(start)) return 'an HTTP request'
  if (start === 'HTTP') return 'an HTTP answer'
  if (start === 'SSH-') return 'SSH'
  return null
}
