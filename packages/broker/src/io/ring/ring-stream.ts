// A connected socket on the ring as a Stream: what its two halves do, and how it comes to its end.
import assert from 'node:assert/strict'
import { closeDescriptor, peerOf, SystemError, shutdownBoth, shutdownWriting } from '@millrace/native'
import { type Block, NetworkError, type Stream, type StreamHandler } from '../../environment.js'
import { networkErrorFrom } from '../portable/network-errors.js'
import type { RingLoop } from './ring-loop.js'
import type { RingMemory } from './ring-memory.js'
import type { StreamBuffers } from './stream-buffers.js'
import { type ReceiverOwner, StreamReceiver } from './stream-receiver.js'
import { type SenderOwner, StreamSender } from './stream-sender.js'

/**
 * After `end`, how long the peer may take to close its side. Closing with bytes of the peer unread makes the kernel
 * send a reset, which can overtake the last reply; so they are read and dropped meanwhile.
 */
const LINGER_MS = 1000

/** What the streams of one environment share. */
export interface StreamContext {
  readonly loop: RingLoop
  readonly memory: RingMemory
  readonly buffers: StreamBuffers
}

/**
 * `open` until `end` or the peer's end; `ending` while the queue is sent; `lingering` until the peer has closed too;
 * `closing` until no operation is in flight; then `closed`, the descriptor is given back and the handler told.
 */
type State = 'open' | 'ending' | 'lingering' | 'closing' | 'closed'

export class RingStream implements Stream, SenderOwner, ReceiverOwner {
  readonly peer: string
  private state: State = 'open'
  private peerEnded = false
  private error: Error | null = null
  private handler: StreamHandler | null = null
  private linger: NodeJS.Timeout | null = null
  private readonly sender: StreamSender
  private readonly receiver: StreamReceiver

  constructor(
    readonly descriptor: number,
    private readonly context: StreamContext,
    private readonly onForgotten: (stream: RingStream) => void,
  ) {
    this.peer = peerOf(descriptor)
    this.sender = new StreamSender(context.loop, context.buffers, this)
    this.receiver = new StreamReceiver(context.loop, context.buffers, this)
  }

  get unsentBytes(): number {
    return this.sender.unsentBytes
  }

  /** Starts delivery. Called once, when the handler is known. */
  begin(handler: StreamHandler): void {
    this.handler = handler
    if (this.state !== 'closing' && this.state !== 'closed') this.receiver.begin(handler)
  }

  write(bytes: Uint8Array): void {
    if (this.state !== 'open' || bytes.byteLength === 0) return
    if (this.sender.write(bytes)) return
    this.fail(new NetworkError('OTHER', `no memory is left for what ${this.peer} has to be sent`))
  }

  writeBlock(block: Block, offset: number, length: number, release: () => void): void {
    assert(length > 0, 'a range has a length above zero')
    const own = this.context.memory.ownRange(block, offset, length)
    if (this.state === 'open') this.sender.writeBlock(own, offset, length, release)
    else this.context.loop.defer(release)
  }

  receiveInto(block: Block, offset: number, length: number): void {
    assert(!this.receiver.filling, 'one run is received at a time')
    assert(length > 0, 'a range has a length above zero')
    const own = this.context.memory.ownRange(block, offset, length)
    if (this.state === 'open') this.receiver.receiveInto(own, offset, length)
  }

  pause(): void {
    if (this.state === 'open') this.receiver.pause()
  }

  resume(): void {
    if (this.state === 'open') this.receiver.resume()
  }

  end(): void {
    if (this.state !== 'open') return
    this.state = 'ending'
    this.receiver.discard()
    if (this.sender.isEmpty) this.onSent()
  }

  destroy(): void {
    if (this.state === 'closing' || this.state === 'closed') return
    this.state = 'closing'
    this.sender.stop()
    this.receiver.stop()
    if (this.linger !== null) clearTimeout(this.linger)
    // Operations in flight on the socket complete, with an end or an error.
    shutdownBoth(this.descriptor)
    this.context.loop.defer(() => this.finishIfIdle())
  }

  onSent(): void {
    if (this.state !== 'ending') return
    if (this.peerEnded) {
      this.destroy()
      return
    }
    this.state = 'lingering'
    shutdownWriting(this.descriptor)
    this.linger = setTimeout(() => this.destroy(), LINGER_MS)
    this.linger.unref()
  }

  onReceiveEnd(): void {
    this.peerEnded = true
    if (this.state === 'lingering') this.destroy()
    else if (this.state === 'open') this.end()
  }

  onSendFailed(errno: number): void {
    this.fail(networkErrorFrom(new SystemError('send', errno), `sending to ${this.peer}`))
  }

  onReceiveFailed(errno: number): void {
    this.fail(networkErrorFrom(new SystemError('recv', errno), `receiving from ${this.peer}`))
  }

  onSendIdle(): void {
    this.finishIfIdle()
  }

  onReceiveIdle(): void {
    this.finishIfIdle()
  }

  private fail(error: Error): void {
    if (this.state === 'closing' || this.state === 'closed') return
    this.error = error
    this.destroy()
  }

  private finishIfIdle(): void {
    if (this.state !== 'closing' || this.sender.inFlight || this.receiver.inFlight) return
    this.state = 'closed'
    closeDescriptor(this.descriptor)
    this.sender.releaseAll()
    this.onForgotten(this)
    this.handler?.onClosed(this.error)
  }
}
