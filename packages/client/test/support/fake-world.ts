// A world without sockets and without time passing by itself: every event happens when the test lets it happen.
import { gunzipSync, gzipSync } from 'node:zlib'
import type { ClientEnvironment, ClientTimer, Link, LinkHandler } from '@millrace/client/environment'
import { crc32 } from '@millrace/protocol'
import { asyncScheduler } from 'rxjs'

interface Event {
  readonly atMs: number
  readonly order: number
  run: (() => void) | null
}

/** The broker's end of a connection. */
export interface ServerEnd {
  onBytes(chunk: Uint8Array): void
  onClosed(): void
}

export interface ServerSocket {
  write(bytes: Uint8Array): void
  /** Ends the connection; the client hears `error`. */
  close(error: Error | null): void
}

export type Listener = (socket: ServerSocket) => ServerEnd

/** Milliseconds a chunk takes from one end to the other. */
const LATENCY_MS = 1

export class FakeWorld {
  nowMs = 1_000
  readonly wallOffsetMs = 1_700_000_000_000
  readonly warnings: { readonly message: string; readonly code: string }[] = []
  readonly dials: string[] = []
  readonly links: FakeLink[] = []
  readonly listeners = new Map<string, Listener>()
  /** Dials to these never get an answer. */
  readonly blackHoles = new Set<string>()
  /** Buffers that were changed between the moment they were handed to a link and the moment they were sent. */
  changedBuffers = 0
  keepAliveTimers = 0
  /** When set, bytes written by clients stay unsent until it is cleared and `release` is called. */
  holdBytes = false
  #order = 0
  #events: Event[] = []
  #deferred: (() => void)[] = []
  #seed = 1

  readonly environment: ClientEnvironment = {
    monotonicMs: () => this.nowMs,
    wallMs: () => Math.floor(this.wallOffsetMs + this.nowMs),
    timer: (delayMs, callback, keepAlive = false) => this.#timer(delayMs, callback, keepAlive),
    defer: (callback) => {
      this.#deferred.push(callback)
    },
    random: () => this.#random(),
    fillRandom: (bytes) => {
      for (let i = 0; i < bytes.length; i++) bytes[i] = Math.floor(this.#random() * 256)
    },
    dial: (host, port, handler) => this.#dial(`${host}:${port}`, handler),
    checksum: crc32,
    codec: {
      gzip: (bytes) => new Uint8Array(gzipSync(bytes)),
      gunzip: (bytes, maxBytes) => new Uint8Array(gunzipSync(bytes, { maxOutputLength: Math.max(1, maxBytes) })),
    },
    scheduler: asyncScheduler,
    emitWarning: (message, code) => {
      this.warnings.push({ message, code })
    },
    defaultClientId: 'test-client',
  }

  /** Runs `callback` after `delayMs` of this world. */
  at(delayMs: number, callback: () => void): Event {
    const event: Event = { atMs: this.nowMs + delayMs, order: this.#order++, run: callback }
    let i = this.#events.length
    while (i > 0 && this.#events[i - 1]!.atMs > event.atMs) i--
    this.#events.splice(i, 0, event)
    return event
  }

  /** Lets `ms` milliseconds pass, and everything in them happen. */
  async run(ms: number): Promise<void> {
    const endMs = this.nowMs + ms
    for (;;) {
      await this.#settle()
      const event = this.#events[0]
      if (event === undefined || event.atMs > endMs) break
      this.#events.shift()
      this.nowMs = Math.max(this.nowMs, event.atMs)
      event.run?.()
    }
    this.nowMs = endMs
    await this.#settle()
  }

  /** Lets time pass until `done`, at most `limitMs`. */
  async until(done: () => boolean, limitMs = 60_000): Promise<void> {
    const endMs = this.nowMs + limitMs
    while (!done()) {
      if (this.nowMs >= endMs) throw new Error(`not within ${limitMs} ms`)
      await this.run(1)
    }
  }

  /** The result of a promise, however long it takes in this world. */
  async result<T>(promise: Promise<T>, limitMs = 600_000): Promise<T> {
    let over = false
    const settled = promise.finally(() => {
      over = true
    })
    // Returned below, when a caller handles it; until then nobody does.
    settled.catch(() => {})
    await this.until(() => over, limitMs)
    return settled
  }

  /** The error a promise rejects with. */
  async failure(promise: Promise<unknown>, limitMs = 600_000): Promise<unknown> {
    return this.result(
      promise.then(
        (value) => {
          throw new Error(`resolved with ${JSON.stringify(value)}`)
        },
        (error: unknown) => error,
      ),
      limitMs,
    )
  }

  /** Blocks the event loop: time passes and nothing happens. */
  block(ms: number): void {
    this.nowMs += ms
  }

  get pendingTimers(): number {
    return this.#events.filter((event) => event.run !== null).length
  }

  get openLinks(): FakeLink[] {
    return this.links.filter((link) => !link.closed)
  }

  async #settle(): Promise<void> {
    do {
      const deferred = this.#deferred
      this.#deferred = []
      for (const callback of deferred) callback()
      await new Promise((resolve) => setImmediate(resolve))
    } while (this.#deferred.length > 0)
  }

  #timer(delayMs: number, callback: () => void, keepAlive: boolean): ClientTimer {
    if (keepAlive) this.keepAliveTimers++
    const event = this.at(delayMs, () => {
      if (keepAlive) this.keepAliveTimers--
      event.run = null
      callback()
    })
    return {
      cancel: () => {
        if (event.run === null) return
        if (keepAlive) this.keepAliveTimers--
        event.run = null
        const index = this.#events.indexOf(event)
        if (index >= 0) this.#events.splice(index, 1)
      },
    }
  }

  #dial(address: string, handler: LinkHandler): Link {
    this.dials.push(address)
    const link = new FakeLink(this, address, handler)
    this.links.push(link)
    return link
  }

  #random(): number {
    // Mulberry32.
    this.#seed = (this.#seed + 0x6d2b79f5) | 0
    let t = this.#seed
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32
  }
}

/** The client's end of a connection. */
export class FakeLink implements Link {
  closed = false
  kept = true
  #unsentBytes = 0
  #server: ServerEnd | null = null
  #held: { readonly bytes: Uint8Array; readonly copy: Uint8Array }[] = []

  constructor(
    readonly world: FakeWorld,
    readonly address: string,
    readonly handler: LinkHandler,
  ) {
    if (world.blackHoles.has(address)) return
    world.at(LATENCY_MS, () => {
      if (this.closed) return
      const listener = world.listeners.get(address)
      if (listener === undefined) {
        this.closed = true
        handler.onClosed(new Error(`connect ECONNREFUSED ${address}`))
        return
      }
      this.#server = listener({
        write: (bytes) => this.#deliver(bytes),
        close: (error) => this.close(error),
      })
      handler.onOpen()
    })
  }

  get unsentBytes(): number {
    return this.#unsentBytes
  }

  // What the client does.

  write(chunks: readonly Uint8Array[]): void {
    if (this.closed) return
    for (const bytes of chunks) {
      this.#unsentBytes += bytes.length
      this.#held.push({ bytes, copy: new Uint8Array(bytes) })
    }
    this.world.at(LATENCY_MS, () => this.release())
  }

  /** Sends what is held. */
  release(): void {
    if (this.closed || this.world.holdBytes) return
    const held = this.#held
    this.#held = []
    for (const { bytes, copy } of held) {
      if (copy.some((byte, i) => byte !== bytes[i])) this.world.changedBuffers++
      this.#unsentBytes -= bytes.length
      this.#server?.onBytes(copy)
      if (this.closed) return
    }
    if (held.length > 0) this.handler.onDrain()
  }

  pause(): void {}
  resume(): void {}

  ref(): void {
    this.kept = true
  }

  unref(): void {
    this.kept = false
  }

  destroy(): void {
    if (this.closed) return
    this.closed = true
    this.#server?.onClosed()
    this.world.at(0, () => this.handler.onClosed(null))
  }

  // What the broker does.

  #deliver(bytes: Uint8Array): void {
    const copy = new Uint8Array(bytes)
    this.world.at(LATENCY_MS, () => {
      if (!this.closed) this.handler.onBytes(copy)
    })
  }

  close(error: Error | null): void {
    this.world.at(LATENCY_MS, () => {
      if (this.closed) return
      this.closed = true
      this.#server?.onClosed()
      this.handler.onClosed(error)
    })
  }
}
