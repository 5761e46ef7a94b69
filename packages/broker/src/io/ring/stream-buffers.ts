// Memory of the network: buffers the kernel receives into, buffers for small sends, scatter lists, and addresses.
import { Arena, BufferRing, MessageHeaders, type Ring, SOCKET_ADDRESS_BYTES } from '@millrace/native'

/** One buffer for small sends, as large as what a turn usually gathers. */
export const SEND_BUFFER_BYTES = 16 * 1024
const RECEIVE_GROUP = 0
const RECEIVE_BUFFERS = { group: RECEIVE_GROUP, count: 64, bufferBytes: 32 * 1024 }
const SEND_CHUNK_BYTES = 4 * 1024 * 1024
/** More than any sane number of connections needs; beyond it a stream that cannot send is closed. */
const MOST_SEND_BYTES = 512 * 1024 * 1024

/** Connections being dialled at the same time. */
const MOST_DIALS = 512
/** Whole pages, as an arena is. */
const ADDRESSES_BYTES = Math.ceil((MOST_DIALS * SOCKET_ADDRESS_BYTES) / 4096) * 4096

export interface SendBuffer {
  readonly bytes: Uint8Array
  readonly address: number
}

/**
 * Not registered with the ring, since sockets take no fixed buffers: the system gives pages as they are touched.
 * Send buffers are reused last in, first out, so that a quiet broker touches few.
 */
export class StreamBuffers {
  readonly received: BufferRing
  readonly messages: MessageHeaders
  /** Where the addresses of dials in flight stand. */
  readonly addresses: Arena
  private readonly freeAddresses: number[] = []
  private readonly arenas: Arena[] = []
  private readonly freeSendBuffers: SendBuffer[] = []
  private sendBytes = 0

  constructor(private readonly ring: Ring) {
    const receiveBytes = BufferRing.byteLength(RECEIVE_BUFFERS)
    const arena = new Arena(receiveBytes + MessageHeaders.BYTES + ADDRESSES_BYTES, ring)
    this.arenas.push(arena)
    this.received = new BufferRing(ring, arena, 0, RECEIVE_BUFFERS)
    this.messages = new MessageHeaders(ring, arena, receiveBytes)
    this.addresses = arena
    const addressesFrom = receiveBytes + MessageHeaders.BYTES
    for (let i = MOST_DIALS - 1; i >= 0; i--) this.freeAddresses.push(addressesFrom + i * SOCKET_ADDRESS_BYTES)
  }

  /** The offset in `addresses` of room for one; null when there are too many dials. */
  takeAddress(): number | null {
    return this.freeAddresses.pop() ?? null
  }

  giveAddress(offset: number): void {
    this.freeAddresses.push(offset)
  }

  /** Null when there are too many in use. */
  takeSendBuffer(): SendBuffer | null {
    if (this.freeSendBuffers.length === 0) this.addSendBuffers()
    return this.freeSendBuffers.pop() ?? null
  }

  giveSendBuffer(buffer: SendBuffer): void {
    this.freeSendBuffers.push(buffer)
  }

  /** The ring was closed before. */
  close(): void {
    for (const arena of this.arenas) arena.close()
  }

  private addSendBuffers(): void {
    if (this.sendBytes + SEND_CHUNK_BYTES > MOST_SEND_BYTES) return
    const arena = new Arena(SEND_CHUNK_BYTES, this.ring)
    this.arenas.push(arena)
    this.sendBytes += SEND_CHUNK_BYTES
    for (let offset = SEND_CHUNK_BYTES - SEND_BUFFER_BYTES; offset >= 0; offset -= SEND_BUFFER_BYTES) {
      const bytes = new Uint8Array(arena.buffer, offset, SEND_BUFFER_BYTES)
      this.freeSendBuffers.push({ bytes, address: arena.address + offset })
    }
  }
}
