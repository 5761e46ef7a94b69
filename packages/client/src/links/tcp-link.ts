// A TCP connection of Node as a link.
import { connect, type Socket } from 'node:net'
import type { Link, LinkHandler } from '../environment.js'

/** Names are resolved by Node on every dial; all their addresses are tried. */
export function dialTcp(host: string, port: number, handler: LinkHandler): Link {
  return new TcpLink(host, port, handler)
}

class TcpLink implements Link {
  readonly #socket: Socket
  readonly #handler: LinkHandler
  #error: Error | null = null
  #pendingWrites = 0

  constructor(host: string, port: number, handler: LinkHandler) {
    this.#handler = handler
    this.#socket = connect({ host, port, noDelay: true })
    this.#socket.on('connect', () => handler.onOpen())
    this.#socket.on('data', (chunk: Buffer) => handler.onBytes(plain(chunk)))
    // The other side has said all it will: a connection open on one side only is of no use.
    this.#socket.on('end', () => this.#socket.destroy())
    // Kept for onClosed; 'close' always follows.
    this.#socket.on('error', (error) => {
      this.#error ??= error
    })
    this.#socket.on('close', () => handler.onClosed(this.#error))
  }

  get unsentBytes(): number {
    return this.#socket.destroyed ? 0 : this.#socket.writableLength
  }

  write(chunks: readonly Uint8Array[]): void {
    const socket = this.#socket
    if (socket.destroyed || chunks.length === 0) return
    // Corked, so that all chunks leave in one writev.
    if (chunks.length > 1) socket.cork()
    this.#pendingWrites++
    const last = chunks.length - 1
    for (let i = 0; i < last; i++) socket.write(chunks[i]!)
    socket.write(chunks[last]!, () => {
      this.#pendingWrites--
      if (this.#pendingWrites === 0 && !socket.destroyed) this.#handler.onDrain()
    })
    if (chunks.length > 1) socket.uncork()
  }

  pause(): void {
    this.#socket.pause()
  }

  resume(): void {
    this.#socket.resume()
  }

  ref(): void {
    this.#socket.ref()
  }

  unref(): void {
    this.#socket.unref()
  }

  destroy(): void {
    this.#socket.destroy()
  }
}

/** The same memory without Node's Buffer methods: plain views are cheaper to make, and `slice` copies. */
export const plain = ({ buffer, byteOffset, byteLength }: Buffer): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength)
