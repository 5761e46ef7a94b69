// Dialling on the ring: a name is looked up, its addresses are tried in turn, and all of it is bounded in time.
import { lookup } from 'node:dns/promises'
import { isIP } from 'node:net'
import { closeDescriptor, SystemError, socketToConnect } from '@millrace/native'
import { type DialOptions, NetworkError } from '../../environment.js'
import { dialAbandoned, dialErrorFrom, dialTimedOut } from '../portable/network-errors.js'
import type { OperationTarget, RingLoop } from './ring-loop.js'
import type { StreamBuffers } from './stream-buffers.js'

const CANCEL_AGAIN_MS = 100

/** One thing a dial waits for; `stop` makes it fail soon. */
interface Wait {
  stop(reason: NetworkError): void
}

export class RingDialer {
  private readonly running = new Set<Promise<void>>()
  private readonly waits = new Map<Wait, string>()
  private closed = false

  constructor(
    private readonly loop: RingLoop,
    private readonly buffers: StreamBuffers,
  ) {}

  /** @param connected gets the descriptor, and owns it from then on. @throws NetworkError */
  dial(options: DialOptions, connected: (descriptor: number) => void): Promise<void> {
    const running = this.run(options, connected).finally(() => this.running.delete(running))
    this.running.add(running)
    return running
  }

  /** Gives up what is being dialled; resolves when all of it has ended. */
  async close(): Promise<void> {
    this.closed = true
    for (const [wait, address] of this.waits) wait.stop(dialAbandoned(address))
    await Promise.allSettled(this.running)
  }

  private async run(options: DialOptions, connected: (descriptor: number) => void): Promise<void> {
    const { host, port, timeoutMs } = options
    const address = `${host}:${port}`
    const deadlineMs = performance.now() + timeoutMs
    const remaining = (share: number) => Math.max(1, (deadlineMs - performance.now()) / share)
    const timedOut = dialTimedOut(address, timeoutMs)
    try {
      const found = isIP(host) === 0 ? await this.lookUp(host, address, remaining(1), timedOut) : [host]
      for (const [i, numeric] of found.entries()) {
        if (this.closed) throw dialAbandoned(address)
        const attempt = new Attempt(this.loop, this.buffers)
        try {
          const limitMs = remaining(found.length - i)
          const descriptor = await this.limited(attempt, attempt.begin(numeric, port), address, limitMs, timedOut)
          this.take(descriptor, address, connected)
          return
        } catch (cause) {
          // The last of the addresses tells why; a name may stand for some that nobody listens at.
          if (i === found.length - 1 || this.closed) throw cause
        }
      }
    } catch (cause) {
      throw dialErrorFrom(cause, address)
    }
  }

  private take(descriptor: number, address: string, connected: (descriptor: number) => void): void {
    if (this.closed) {
      closeDescriptor(descriptor)
      throw dialAbandoned(address)
    }
    connected(descriptor)
  }

  private async lookUp(host: string, address: string, limitMs: number, timedOut: NetworkError): Promise<string[]> {
    let stop: (reason: NetworkError) => void = () => {}
    const looked = new Promise<string[]>((resolve, reject) => {
      stop = reject
      lookup(host, { all: true }).then((found) => resolve(found.map((one) => one.address)), reject)
    })
    return this.limited({ stop }, looked, address, limitMs, timedOut)
  }

  private async limited<T>(
    wait: Wait,
    work: Promise<T>,
    address: string,
    limitMs: number,
    timedOut: NetworkError,
  ): Promise<T> {
    if (this.closed) wait.stop(dialAbandoned(address))
    this.waits.set(wait, address)
    const limit = setTimeout(() => wait.stop(timedOut), limitMs)
    try {
      return await work
    } finally {
      clearTimeout(limit)
      this.waits.delete(wait)
    }
  }
}

/** One address being connected to: owns the descriptor until it is connected, and the room of the address. */
class Attempt implements OperationTarget, Wait {
  private descriptor = -1
  private room: number | null = null
  private slot = 0
  private generation = 0
  private inFlight = false
  private reason: NetworkError | null = null
  private again: NodeJS.Timeout | null = null
  private settle: { resolve: (descriptor: number) => void; reject: (error: Error) => void } | null = null

  constructor(
    private readonly loop: RingLoop,
    private readonly buffers: StreamBuffers,
  ) {}

  /** Resolves with the descriptor of the connected socket. */
  begin(numeric: string, port: number): Promise<number> {
    return new Promise((resolve, reject) => {
      const { loop, buffers } = this
      loop.assertOpen()
      const room = buffers.takeAddress()
      if (room === null) throw new NetworkError('OTHER', 'too many connections are being dialled at the same time')
      try {
        this.descriptor = socketToConnect(numeric, port, buffers.addresses, room)
      } catch (cause) {
        buffers.giveAddress(room)
        throw cause
      }
      this.room = room
      this.settle = { resolve, reject }
      this.slot = loop.acquire(this)
      this.generation = loop.generation(this.slot)
      this.inFlight = true
      loop.ring.connect(this.descriptor, buffers.addresses.address + room, this.slot, this.generation)
    })
  }

  /** The completion tells when the kernel has let go. */
  stop(reason: NetworkError): void {
    this.reason ??= reason
    if (!this.inFlight || this.again !== null) return
    const { loop, slot, generation } = this
    loop.ring.cancel(slot, generation)
    // Once is not enough: an operation between two states can be missed.
    this.again = setInterval(() => loop.ring.cancel(slot, generation), CANCEL_AGAIN_MS)
    this.again.unref()
  }

  onCompletion(result: number): void {
    this.inFlight = false
    if (this.again !== null) clearInterval(this.again)
    if (this.room !== null) this.buffers.giveAddress(this.room)
    if (result === 0) {
      this.settle?.resolve(this.descriptor)
      return
    }
    closeDescriptor(this.descriptor)
    this.settle?.reject(this.reason ?? new SystemError('connect', result))
  }
}
