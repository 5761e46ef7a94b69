// Names what went wrong on the network: system error codes become the few that the broker tells apart.
import { NetworkError, type NetworkErrorCode } from '../../environment.js'
import { systemCode } from './disk-errors.js'

const CODES: Readonly<Record<string, NetworkErrorCode>> = {
  EADDRINUSE: 'ADDRESS_IN_USE',
  EACCES: 'PERMISSION',
  EPERM: 'PERMISSION',
  EADDRNOTAVAIL: 'BAD_ADDRESS',
  EAFNOSUPPORT: 'BAD_ADDRESS',
  ENOTFOUND: 'BAD_ADDRESS',
  EAI_AGAIN: 'BAD_ADDRESS',
  EINVAL: 'BAD_ADDRESS',
  ERR_SOCKET_BAD_PORT: 'BAD_ADDRESS',
  ECONNRESET: 'RESET',
  EPIPE: 'RESET',
  ECONNABORTED: 'RESET',
  ETIMEDOUT: 'RESET',
}

/** @param doing what was tried, as in "listening on x": the start of the message. */
export function networkErrorFrom(cause: unknown, doing: string): NetworkError {
  if (cause instanceof NetworkError) return cause
  const code = systemCode(cause)
  const words = cause instanceof Error ? cause.message : String(cause)
  return new NetworkError((code !== null && CODES[code]) || 'OTHER', `${doing} failed: ${words}`, { cause })
}
