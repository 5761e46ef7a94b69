// The environment of a simulated client process: what the client asks of the world, under the scheduler.
import { crc32, gunzipSync, gzipSync } from 'node:zlib'
import type { ClientCodec, ClientEnvironment, ClientTimer, Link, LinkHandler } from '@millrace/client/environment'
import { type SchedulerAction, type SchedulerLike, Subscription } from 'rxjs'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'
import { SimulatedClock } from './simulated-clock.js'
import type { Endpoint, SimulatedNetwork } from './simulated-network.js'

export interface ClientWarning {
  readonly message: string
  readonly code: string
}

export class SimulatedClientEnvironment implements ClientEnvironment {
  readonly process: SimulatedProcess
  readonly clock: SimulatedClock
  readonly scheduler: SchedulerLike
  readonly defaultClientId: string
  readonly warnings: ClientWarning[] = []
  readonly links = new Set<SimulatedLink>()
  readonly codec: ClientCodec = {
    gzip: (bytes) => plainBytes(gzipSync(bytes)),
    gunzip: (bytes, maxBytes) => plainBytes(gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) })),
  }

  constructor(
    private readonly world: Scheduler,
    private readonly network: SimulatedNetwork,
    private readonly chance: SeededRandom,
    name: string,
  ) {
    this.process = world.spawn(name)
    this.clock = new SimulatedClock(world, this.process, chance.split('clock'))
    this.scheduler = new SimulatedRxScheduler(this.clock)
    this.defaultClientId = `simulated/${name}`
  }

  monotonicMs(): number {
    return this.clock.monotonicMs()
  }

  wallMs(): number {
    return this.clock.wallMs()
  }

  timer(delayMs: number, callback: () => void): ClientTimer {
    return this.clock.timer(delayMs, callback)
  }

  defer(callback: () => void): void {
    this.clock.defer(callback)
  }

  random(): number {
    return this.chance.fraction()
  }

  fillRandom(bytes: Uint8Array): void {
    this.chance.fill(bytes)
  }

  dial(host: string, port: number, handler: LinkHandler): Link {
    const link = new SimulatedLink(this.world, this.process, handler, () => this.links.delete(link))
    this.links.add(link)
    this.network.dial(
      this.process,
      this.process.name,
      host,
      port,
      (end) => link.opened(end),
      (reason) => link.failed(reason),
    )
    return link
  }

  checksum(bytes: Uint8Array, seed: number): number {
    return crc32(bytes, seed)
  }

  emitWarning(message: string, code: string): void {
    this.warnings.push({ message, code })
  }

  /** The process ends abruptly: nothing of it runs any more. */
  kill(): void {
    this.process.alive = false
    this.network.processDied(this.process)
  }
}

class SimulatedLink implements Link {
  private end: Endpoint | null = null
  private over = false
  private draining = false

  constructor(
    private readonly scheduler: Scheduler,
    private readonly process: SimulatedProcess,
    private readonly handler: LinkHandler,
    private readonly onForgotten: () => void,
  ) {}

  get unsentBytes(): number {
    return this.end?.outgoing.unsentBytes ?? 0
  }

  opened(end: Endpoint): void {
    if (this.over) {
      end.destroy()
      return
    }
    this.end = end
    end.attach({
      onBytes: (chunk) => {
        if (!this.over) this.handler.onBytes(chunk)
      },
      onClosed: (error) => this.finish(error),
    })
    this.handler.onOpen()
  }

  failed(reason: Error): void {
    this.finish(reason)
  }

  write(chunks: readonly Uint8Array[]): void {
    const { end } = this
    if (end === null || this.over) return
    for (const chunk of chunks) {
      const before = crc32(chunk, 0)
      end.outgoing.write(chunk, () => {
        if (crc32(chunk, 0) !== before) throw new Error('the client changed bytes it had given to its link')
        this.drained()
      })
    }
  }

  pause(): void {
    if (this.end?.isOpen) this.end.incoming.pause()
  }

  resume(): void {
    if (this.end?.isOpen) this.end.incoming.resume()
  }

  ref(): void {}

  unref(): void {}

  destroy(): void {
    if (this.end !== null) this.end.destroy()
    else if (!this.over) this.scheduler.schedule(this.process, 0, 'closed', () => this.finish(null))
  }

  /** One call for a burst of writes that were taken together. */
  private drained(): void {
    if (this.draining || this.over || this.unsentBytes > 0) return
    this.draining = true
    this.scheduler.schedule(this.process, 0, 'drain', () => {
      this.draining = false
      if (!this.over && this.unsentBytes === 0) this.handler.onDrain()
    })
  }

  private finish(error: Error | null): void {
    if (this.over) return
    this.over = true
    this.onForgotten()
    this.handler.onClosed(error)
  }
}

/** What RxJS operators with time run on: `AsyncScheduler` over the simulated clock. */
class SimulatedRxScheduler implements SchedulerLike {
  constructor(private readonly clock: SimulatedClock) {}

  now(): number {
    return this.clock.wallMs()
  }

  schedule<T>(work: (this: SchedulerAction<T>, state: T) => void, delay = 0, state?: T): Subscription {
    return new SimulatedAction<T>(this.clock, work).schedule(state, delay)
  }
}

class SimulatedAction<T> extends Subscription implements SchedulerAction<T> {
  private cancel: (() => void) | null = null

  constructor(
    private readonly clock: SimulatedClock,
    private readonly work: (this: SchedulerAction<T>, state: T) => void,
  ) {
    super(() => this.cancel?.())
  }

  /** May be called from inside the work, to run again: the subscription stays the same. */
  schedule(state?: T, delay = 0): Subscription {
    if (this.closed) return this
    this.cancel?.()
    const timer = this.clock.timer(delay, () => {
      this.cancel = null
      this.work.call(this, state as T)
      // An action that did not schedule itself again is done, and its owner may forget it.
      if (this.cancel === null) this.unsubscribe()
    })
    this.cancel = () => timer.cancel()
    return this
  }
}

function plainBytes(buffer: Buffer): Uint8Array {
  return new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength)
}
