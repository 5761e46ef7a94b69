// A connected socket of node:net as a Stream: one gathered write a turn, blocks held until the kernel has taken them.
import assert from 'node:assert/strict'
import type { Socket } from 'node:net'
import type { Block, Stream, StreamHandler } from '../../environment.js'
import { networkErrorFrom } from './network-errors.js'
import type { Turn, TurnEndFlush } from './turn.js'

/**
 * After `end`, how long the peer may take to close its side. Closing with bytes of the peer unread makes the kernel
 * send a reset, which can overtake the last reply; so they are read and dropped meanwhile.
 */
const LINGER_MS = 1000

/** An object of its own for each write: the same function may release many. */
interface Held {
  readonly release: () => void
}

interface Run {
  readonly block: Block
  offset: number
  remaining: number
}

export class PortableStream implements Stream, TurnEndFlush {
  readonly peer: string
  unsentBytes = 0
  private handler: StreamHandler | null = null
  private run: Run | null = null
  /** Blocks whose bytes are queued or on their way; released at the latest before `onClosed`. */
  private readonly held = new Set<Held>()
  private corked = false
  private ending = false
  private discarding = false
  private closed = false
  private error: Error | null = null
  private linger: NodeJS.Timeout | null = null

  constructor(
    private readonly socket: Socket,
    private readonly turn: Turn,
    private readonly onForgotten: () => void,
  ) {
    this.peer = `${socket.remoteAddress ?? 'unknown'}:${socket.remotePort ?? 0}`
    socket.on('error', (cause) => {
      this.error = networkErrorFrom(cause, `the connection with ${this.peer}`)
    })
    socket.on('close', () => this.finish())
  }

  /** Starts delivery. Called once, when the handler is known. */
  begin(handler: StreamHandler): void {
    this.handler = handler
    this.socket.on('data', (chunk: Uint8Array) => this.deliver(chunk))
  }

  write(bytes: Uint8Array): void {
    if (this.ending || this.discarding || bytes.byteLength === 0) return
    this.send(Buffer.from(bytes), null)
  }

  writeBlock(block: Block, offset: number, length: number, release: () => void): void {
    assert(offset >= 0 && length > 0 && offset + length <= block.byteLength, 'a range lies inside its block')
    if (this.ending || this.discarding) this.turn.defer(release)
    else this.send(block.bytes.subarray(offset, offset + length), { release })
  }

  receiveInto(block: Block, offset: number, length: number): void {
    assert(this.run === null, 'one run is received at a time')
    assert(offset >= 0 && length > 0 && offset + length <= block.byteLength, 'a range lies inside its block')
    if (!this.discarding) this.run = { block, offset, remaining: length }
  }

  pause(): void {
    if (!this.discarding) this.socket.pause()
  }

  resume(): void {
    if (!this.discarding) this.socket.resume()
  }

  end(): void {
    if (this.ending || this.discarding) return
    this.ending = true
    this.discarding = true
    this.flushTurn()
    this.socket.resume()
    this.socket.end(() => {
      if (this.closed) return
      this.linger = setTimeout(() => this.socket.destroy(), LINGER_MS)
      this.linger.unref()
    })
  }

  destroy(): void {
    this.ending = true
    this.discarding = true
    this.socket.destroy()
  }

  flushTurn(): void {
    if (!this.corked) return
    this.corked = false
    this.socket.uncork()
  }

  /** Destroys the stream; resolves after `onClosed`. */
  destroyAndWait(): Promise<void> {
    if (this.closed) return Promise.resolve()
    return new Promise((resolve) => {
      this.socket.once('close', () => resolve())
      this.destroy()
    })
  }

  private send(bytes: Uint8Array, held: Held | null): void {
    if (!this.corked) {
      this.corked = true
      this.socket.cork()
      this.turn.flushAtEnd(this)
    }
    const length = bytes.byteLength
    this.unsentBytes += length
    if (held !== null) this.held.add(held)
    this.socket.write(bytes, (cause) => {
      this.unsentBytes -= length
      // After an error the kernel may still hold the bytes until the handle is closed: `finish` releases them.
      if (held !== null && !cause && this.held.delete(held)) held.release()
    })
  }

  private deliver(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength && !this.discarding) {
      const run = this.run
      if (run === null) {
        this.handler!.onBytes(at === 0 ? chunk : chunk.subarray(at))
        return
      }
      const count = Math.min(run.remaining, chunk.byteLength - at)
      run.block.bytes.set(chunk.subarray(at, at + count), run.offset)
      run.offset += count
      run.remaining -= count
      at += count
      if (run.remaining === 0) {
        this.run = null
        this.handler!.onFilled()
      }
    }
  }

  private finish(): void {
    this.closed = true
    this.ending = true
    this.discarding = true
    this.run = null
    this.unsentBytes = 0
    if (this.linger !== null) clearTimeout(this.linger)
    const held = [...this.held]
    this.held.clear()
    for (const { release } of held) release()
    this.onForgotten()
    this.handler?.onClosed(this.error)
  }
}
