// A TCP connection of Node as a link.
import { connect, type Socket } from 'node:net'
import type { Link, LinkHandler } from '../environment.js'

/** What is read at once of frames that come whole or in small pieces. */
const READ_BYTES = 64 * 1024
/** A receiver's own place is used from this size on: below, one large read brings several frames. */
const IN_PLACE_BYTES = 32 * 1024
/** After bytes that were received in place the next header is near: what is read along with it is copied, so it is little. */
const READ_BEHIND_PLACE_BYTES = 4 * 1024

/** Names are resolved by Node on every dial; all their addresses are tried. */
export function dialTcp(host: string, port: number, handler: LinkHandler): Link {
  return new TcpLink(host, port, handler)
}

class TcpLink implements Link {
  readonly #socket: Socket
  readonly #handler: LinkHandler
  /** Bytes without a place of their own are read into this and copied out, so that no read costs 64 KiB of new memory. */
  readonly #scratch = new Uint8Array(READ_BYTES)
  readonly #scratchBehindPlace = this.#scratch.subarray(0, READ_BEHIND_PLACE_BYTES)
  #inPlace = false
  #error: Error | null = null
  #pendingWrites = 0

  constructor(host: string, port: number, handler: LinkHandler) {
    this.#handler = handler
    const onread = { buffer: () => this.#target(), callback: (byteLength: number) => this.#received(byteLength) }
    this.#socket = connect({ host, port, noDelay: true, onread })
    this.#socket.on('connect', () => handler.onOpen())
    // The other side has said all it will: a connection open on one side only is of no use.
    this.#socket.on('end', () => this.#socket.destroy())
    // Kept for onClosed; 'close' always follows.
    this.#socket.on('error', (error) => {
      this.#error ??= error
    })
    this.#socket.on('close', () => handler.onClosed(this.#error))
  }

  /** Where the next read goes; asked for before the first read and after each. */
  #target(): Uint8Array {
    const room = this.#handler.room?.() ?? null
    const wasInPlace = this.#inPlace
    this.#inPlace = room !== null && room.length >= IN_PLACE_BYTES
    if (this.#inPlace) return room!
    return wasInPlace ? this.#scratchBehindPlace : this.#scratch
  }

  /** @returns true: reading goes on. */
  #received(byteLength: number): boolean {
    // A view first, since copying a whole typed array needs no zeros before.
    if (this.#inPlace) this.#handler.onFilled?.(byteLength)
    else this.#handler.onBytes(new Uint8Array(this.#scratch.subarray(0, byteLength)))
    return true
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
