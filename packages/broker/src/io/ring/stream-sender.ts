// The sending half of a stream: a queue of ranges, gathered once a turn into one operation.
import { MSG_WAITALL } from '@millrace/native'
import type { OperationTarget, RingLoop, TurnEndFlush } from './ring-loop.js'
import type { RingBlock } from './ring-memory.js'
import { SEND_BUFFER_BYTES, type SendBuffer, type StreamBuffers } from './stream-buffers.js'

const EINTR = -4
const EAGAIN = -11
const ENOMEM = -12
const ENOBUFS = -105
const RETRY_MS = 5

/** Bytes to be sent: a part of a caller's block, or a buffer of ours that later writes of the turn may fill further. */
interface Range {
  address: number
  length: number
  readonly buffer: SendBuffer | null
  readonly block: RingBlock | null
  readonly release: (() => void) | null
}

export interface SenderOwner {
  readonly descriptor: number
  /** Everything queued was taken by the kernel. */
  onSent(): void
  onSendFailed(errno: number): void
  /** An operation has ended: whoever waits for that may go on. */
  onSendIdle(): void
}

/** Invariant: at most one operation is in flight, so bytes leave in order. */
export class StreamSender implements OperationTarget, TurnEndFlush {
  unsentBytes = 0
  inFlight = false
  private queue: Range[] = []
  private first = 0
  private flushing = false
  private stopped = false

  constructor(
    private readonly loop: RingLoop,
    private readonly buffers: StreamBuffers,
    private readonly owner: SenderOwner,
  ) {}

  /** Copies `bytes`; false when there is no memory for them. */
  write(bytes: Uint8Array): boolean {
    let at = 0
    while (at < bytes.byteLength) {
      const range = this.openRange()
      if (range === null) return false
      // `address` moves on as bytes are sent; the end of the filled part is where the buffer's free part begins.
      const filled = range.address - range.buffer!.address + range.length
      const count = Math.min(SEND_BUFFER_BYTES - filled, bytes.byteLength - at)
      range.buffer!.bytes.set(at === 0 && count === bytes.byteLength ? bytes : bytes.subarray(at, at + count), filled)
      range.length += count
      this.unsentBytes += count
      at += count
    }
    this.flushAtEnd()
    return true
  }

  writeBlock(block: RingBlock, offset: number, length: number, release: () => void): void {
    block.pins++
    this.queue.push({ address: block.address + offset, length, buffer: null, block, release })
    this.unsentBytes += length
    this.flushAtEnd()
  }

  get isEmpty(): boolean {
    return this.unsentBytes === 0
  }

  flushTurn(): void {
    this.flushing = false
    if (this.inFlight || this.stopped || this.isEmpty) return
    this.submit()
  }

  onCompletion(result: number): void {
    this.inFlight = false
    if (result >= 0) this.taken(result)
    if (this.stopped) this.owner.onSendIdle()
    else if (result < 0) this.failed(result)
    else if (this.isEmpty) this.owner.onSent()
    else this.flushAtEnd()
  }

  /** Sends nothing more. What is queued is released by `releaseAll`, once nothing is in flight. */
  stop(): void {
    this.stopped = true
  }

  releaseAll(): void {
    while (this.first < this.queue.length) this.releaseFirst()
    this.unsentBytes = 0
  }

  private flushAtEnd(): void {
    if (this.flushing) return
    this.flushing = true
    this.loop.flushAtEnd(this)
  }

  /** The last range, if it is a buffer with room, else a new buffer. */
  private openRange(): Range | null {
    const last = this.queue.at(-1)
    if (last?.buffer && last.address + last.length < last.buffer.address + SEND_BUFFER_BYTES) return last
    const buffer = this.buffers.takeSendBuffer()
    if (buffer === null) return null
    const range: Range = { address: buffer.address, length: 0, buffer, block: null, release: null }
    this.queue.push(range)
    return range
  }

  private submit(): void {
    const { loop, owner } = this
    const slot = loop.acquire(this)
    const generation = loop.generation(slot)
    this.inFlight = true
    const message = this.queue.length - this.first > 1 && this.buffers.messages.begin() ? this.gather() : -1
    // MSG_WAITALL: the kernel goes on after a short send by itself.
    if (message >= 0) loop.ring.sendMessage(owner.descriptor, message, MSG_WAITALL, slot, generation)
    else {
      const { address, length } = this.queue[this.first]!
      loop.ring.send(owner.descriptor, address, length, MSG_WAITALL, slot, generation)
    }
  }

  private gather(): number {
    const { messages } = this.buffers
    for (let i = this.first; i < this.queue.length; i++) {
      const { address, length } = this.queue[i]!
      if (!messages.add(address, length)) break
    }
    return messages.finish()
  }

  private taken(count: number): void {
    this.unsentBytes -= count
    let left = count
    while (left > 0) {
      const range = this.queue[this.first]!
      if (left < range.length) {
        range.address += left
        range.length -= left
        return
      }
      left -= range.length
      this.releaseFirst()
    }
  }

  private releaseFirst(): void {
    const range = this.queue[this.first]!
    this.first++
    if (this.first === this.queue.length) {
      this.queue = []
      this.first = 0
    } else if (this.first >= 64 && this.first * 2 > this.queue.length) {
      this.queue = this.queue.slice(this.first)
      this.first = 0
    }
    if (range.buffer !== null) this.buffers.giveSendBuffer(range.buffer)
    if (range.block !== null) range.block.pins--
    range.release?.()
  }

  private failed(errno: number): void {
    if (errno === EINTR || errno === EAGAIN) this.flushAtEnd()
    else if (errno === ENOMEM || errno === ENOBUFS) {
      // The machine is short of memory for sockets: it is asked again, but not in a loop without pause.
      setTimeout(() => this.flushAtEnd(), RETRY_MS)
    } else this.owner.onSendFailed(errno)
  }
}
