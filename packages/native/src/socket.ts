// Sockets outside of the ring: listening, what is to be connected, names and shutting down.
import type { Arena } from './arena.js'
import { binding } from './binding.js'
import { checkAnswer, SystemError } from './errors.js'

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

/**
 * The descriptor of a socket to be connected by the ring. The address it goes to is written into `arena` at `offset`
 * and has to stay there until the connecting has ended.
 * @param address numeric, IPv4 or IPv6. @throws SystemError
 */
export function socketToConnect(address: string, port: number, arena: Arena, offset: number): number {
  return checkAnswer(`connect ${address}:${port}`, binding().socketDial(address, port, arena.handle, offset))
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
