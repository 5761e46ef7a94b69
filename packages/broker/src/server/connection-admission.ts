// Who may connect: so many connections in all, so many from one address, and so many new ones a second.
import type { Clock } from '../environment.js'
import { ACCEPT_BURST_SECONDS, ACCEPTS_PER_SECOND, MAX_CONNECTIONS, MAX_CONNECTIONS_PER_ADDRESS } from '../limits.js'

export interface ConnectionLimits {
  readonly maxConnections: number
  /** 0 for no limit of its own. */
  readonly maxConnectionsPerAddress: number
  /** 0 for no limit. */
  readonly acceptsPerSecond: number
}

export const DEFAULT_CONNECTION_LIMITS: ConnectionLimits = {
  maxConnections: MAX_CONNECTIONS,
  maxConnectionsPerAddress: MAX_CONNECTIONS_PER_ADDRESS,
  acceptsPerSecond: ACCEPTS_PER_SECOND,
}

/** What is configured, and else the standard. */
export function connectionLimitsOf(given: Partial<Omit<ConnectionLimits, 'maxConnections'>>): ConnectionLimits {
  const { maxConnections, ...standard } = DEFAULT_CONNECTION_LIMITS
  return {
    maxConnections,
    maxConnectionsPerAddress: given.maxConnectionsPerAddress ?? standard.maxConnectionsPerAddress,
    acceptsPerSecond: given.acceptsPerSecond ?? standard.acceptsPerSecond,
  }
}

/** The address in `address:port`, whatever colons the address has itself. */
export function addressOf(peer: string): string {
  const end = peer.lastIndexOf(':')
  return end < 0 ? peer : peer.slice(0, end)
}

export class ConnectionAdmission {
  readonly #clock: Clock
  readonly #limits: ConnectionLimits
  readonly #byAddress = new Map<string, number>()
  #connections = 0
  /** Connections that may be accepted now; grows with time, up to a burst. */
  #tokens: number
  #refilledAtMs: number

  constructor(clock: Clock, limits: ConnectionLimits) {
    this.#clock = clock
    this.#limits = limits
    this.#tokens = limits.acceptsPerSecond * ACCEPT_BURST_SECONDS
    this.#refilledAtMs = clock.monotonicMs()
  }

  /** Null when the connection is admitted, and counts until `left`; otherwise why not, and what to do. */
  admit(address: string): string | null {
    const { maxConnections, maxConnectionsPerAddress, acceptsPerSecond } = this.#limits
    const fromAddress = this.#byAddress.get(address) ?? 0
    if (this.#connections >= maxConnections) {
      return `the broker has ${this.#connections} connections, which is its limit: close some, or add brokers`
    }
    if (maxConnectionsPerAddress > 0 && fromAddress >= maxConnectionsPerAddress) {
      return (
        `${address} has ${fromAddress} connections, which is the limit: ` +
        'share one client among the parts of a program, or raise --max-connections-per-address'
      )
    }
    if (!this.#takeToken()) {
      return (
        `more than ${acceptsPerSecond} connections a second are made: ` +
        'keep connections instead of making new ones, or raise --accepts-per-second'
      )
    }
    this.#connections++
    this.#byAddress.set(address, fromAddress + 1)
    return null
  }

  /** A connection that was admitted is closed. */
  left(address: string): void {
    this.#connections--
    const others = (this.#byAddress.get(address) ?? 1) - 1
    if (others === 0) this.#byAddress.delete(address)
    else this.#byAddress.set(address, others)
  }

  #takeToken(): boolean {
    const { acceptsPerSecond } = this.#limits
    if (acceptsPerSecond === 0) return true
    const now = this.#clock.monotonicMs()
    const earned = ((now - this.#refilledAtMs) / 1000) * acceptsPerSecond
    this.#refilledAtMs = now
    this.#tokens = Math.min(acceptsPerSecond * ACCEPT_BURST_SECONDS, this.#tokens + earned)
    if (this.#tokens < 1) return false
    this.#tokens--
    return true
  }
}
