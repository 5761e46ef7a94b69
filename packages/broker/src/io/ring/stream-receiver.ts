// The receiving half of a stream: into the shared buffers of the ring, or straight into the block a caller waits for.
import { CQE_BUFFER, CQE_BUFFER_SHIFT, CQE_SOCKET_NON_EMPTY, MSG_WAITALL } from '@millrace/native'
import type { StreamHandler } from '../../environment.js'
import type { OperationTarget, RingLoop } from './ring-loop.js'
import type { RingBlock } from './ring-memory.js'
import type { StreamBuffers } from './stream-buffers.js'

const EINTR = -4
const EAGAIN = -11
const ENOMEM = -12
const ENOBUFS = -105
const ECANCELED = -125
const RETRY_MS = 5

export interface ReceiverOwner {
  readonly descriptor: number
  onReceiveEnd(): void
  onReceiveFailed(errno: number): void
  /** An operation has ended: whoever waits for that may go on. */
  onReceiveIdle(): void
}

type Operation = 'none' | 'provided' | 'direct'

/** Invariant: at most one operation is in flight, so bytes arrive in order. */
export class StreamReceiver implements OperationTarget {
  private operation: Operation = 'none'
  private slot = 0
  private generation = 0
  private handler: StreamHandler | null = null
  private block: RingBlock | null = null
  private offset = 0
  private remaining = 0
  private paused = false
  private pausing = false
  private discarding = false
  private stopped = false
  private mayHaveBytes = true

  constructor(
    private readonly loop: RingLoop,
    private readonly buffers: StreamBuffers,
    private readonly owner: ReceiverOwner,
  ) {}

  get inFlight(): boolean {
    return this.operation !== 'none'
  }

  get filling(): boolean {
    return this.block !== null
  }

  begin(handler: StreamHandler): void {
    this.handler = handler
    this.arm()
  }

  receiveInto(block: RingBlock, offset: number, length: number): void {
    block.pins++
    this.block = block
    this.offset = offset
    this.remaining = length
    this.arm()
  }

  pause(): void {
    this.paused = true
    if (this.pausing || this.operation === 'none') return
    this.pausing = true
    // At the end of the turn: whoever resumes at once pays nothing.
    this.loop.defer(() => {
      this.pausing = false
      if (this.paused && this.operation !== 'none') this.loop.ring.cancel(this.slot, this.generation)
    })
  }

  resume(): void {
    this.paused = false
    this.arm()
  }

  /** From now on bytes are received and dropped, until the end. */
  discard(): void {
    this.discarding = true
    this.paused = false
    this.arm()
  }

  /** Receives nothing more, and gives the block free once nothing is in flight. */
  stop(): void {
    this.stopped = true
    if (this.operation === 'none') this.releaseBlock()
  }

  onCompletion(result: number, flags: number): void {
    const operation = this.operation
    this.operation = 'none'
    this.mayHaveBytes = (flags & CQE_SOCKET_NON_EMPTY) !== 0
    const buffer = (flags & CQE_BUFFER) !== 0 ? flags >>> CQE_BUFFER_SHIFT : -1
    try {
      if (result > 0 && !this.stopped) {
        if (buffer >= 0) this.deliver(this.buffers.received.bytes(buffer, result))
        else if (operation === 'direct') this.advance(result)
      }
    } finally {
      if (buffer >= 0) this.buffers.received.give(buffer)
      this.goOn(result)
    }
  }

  private goOn(result: number): void {
    if (this.stopped) {
      this.releaseBlock()
      this.owner.onReceiveIdle()
    } else if (result > 0) this.arm()
    else if (result === 0) this.owner.onReceiveEnd()
    else this.failed(result)
  }

  private arm(): void {
    if (this.operation !== 'none' || this.paused || this.stopped || this.handler === null) return
    const { loop, owner } = this
    this.slot = loop.acquire(this)
    this.generation = loop.generation(this.slot)
    const pollFirst = !this.mayHaveBytes
    const { descriptor } = owner
    if (this.block === null || this.discarding) {
      this.operation = 'provided'
      loop.ring.receiveProvided(descriptor, this.buffers.received.group, pollFirst, this.slot, this.generation)
    } else {
      this.operation = 'direct'
      const address = this.block.address + this.offset
      loop.ring.receive(descriptor, address, this.remaining, MSG_WAITALL, pollFirst, this.slot, this.generation)
    }
  }

  private deliver(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength && !this.discarding && !this.stopped) {
      if (this.block === null) {
        this.handler!.onBytes(at === 0 ? chunk : chunk.subarray(at))
        return
      }
      const count = Math.min(this.remaining, chunk.byteLength - at)
      this.block.bytes.set(chunk.subarray(at, at + count), this.offset)
      at += count
      this.advance(count)
    }
  }

  private advance(count: number): void {
    this.offset += count
    this.remaining -= count
    if (this.remaining > 0) return
    this.releaseBlock()
    if (!this.discarding) this.handler!.onFilled()
  }

  private releaseBlock(): void {
    if (this.block !== null) this.block.pins--
    this.block = null
  }

  private failed(errno: number): void {
    if (errno === EINTR || errno === EAGAIN || errno === ECANCELED || errno === ENOBUFS) {
      // ENOBUFS: every shared buffer was filled in this turn; all are given back by the time this is submitted.
      this.mayHaveBytes = true
      this.arm()
    } else if (errno === ENOMEM) setTimeout(() => this.arm(), RETRY_MS)
    else this.owner.onReceiveFailed(errno)
  }
}
