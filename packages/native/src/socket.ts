// Sockets outside of the ring: listening, names and shutting down.
import { binding } from './binding.js'
import { SystemError } from './errors.js'

export interface ListeningSocket {
  readonly descriptor: number
  readonly port: number
}

/** @param address numeric, IPv4 or IPv6. @throws SystemError */
export function listenOn(address: string, port: number, backlog: number): ListeningSocket {
  const answer = binding().socketListen(address, port, backlog)
  if (typeof answer === 'number') throw new SystemError(`listen ${address}:${port}`, answer)
  return answer
}

/** "address:port" of the other end; empty when the connection is gone already. */
export function peerOf(descriptor: number): string {
  return binding().socketPeer(descriptor)
}

/** No more sending: the peer reads an end. Errors do not matter: the connection is gone then. */
export function shutdownWriting(descriptor: number): void {
  binding().socketShutdown(descriptor, 1)
}

/** Ends both directions: operations in flight on the socket complete. */
export function shutdownBoth(descriptor: number): void {
  binding().socketShutdown(descriptor, 2)
}
