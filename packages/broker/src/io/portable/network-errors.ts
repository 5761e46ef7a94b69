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
  ERR_MILLRACE_RANGE: 'BAD_ADDRESS',
  ECONNREFUSED: 'REFUSED',
  EHOSTUNREACH: 'UNREACHABLE',
  EHOSTDOWN: 'UNREACHABLE',
  ENETUNREACH: 'UNREACHABLE',
  ENETDOWN: 'UNREACHABLE',
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

/** Why a dial failed: what ends a connection that stands means that none came about. */
export function dialErrorFrom(cause: unknown, address: string): NetworkError {
  const error = networkErrorFrom(cause, `connecting to ${address}`)
  if (systemCode(cause) !== 'ETIMEDOUT') return error
  return new NetworkError('TIMED_OUT', error.message, { cause })
}

export function dialTimedOut(address: string, timeoutMs: number): NetworkError {
  return new NetworkError('TIMED_OUT', `connecting to ${address} failed: no answer within ${timeoutMs} ms`)
}

export function dialAbandoned(address: string): NetworkError {
  return new NetworkError('OTHER', `connecting to ${address} failed: the environment is closed`)
}
