// A broker's end of a simulated connection as a Stream, and the Network that accepts and dials them.
import {
  type Block,
  type DatagramSocket,
  type Network,
  NetworkError,
  type Stream,
  type StreamHandler,
} from '#src/environment.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'
import type { BlockUse, SimulatedMemory } from './simulated-memory.js'
import type { Endpoint, SimulatedNetwork } from './simulated-network.js'

/** Chunks are overwritten after delivery: whoever keeps one instead of copying it sees this. */
const STALE = 0xdd

interface Run {
  readonly block: Block
  offset: number
  remaining: number
  readonly use: BlockUse
}

export class SimulatedStream implements Stream {
  readonly peer: string
  private handler: StreamHandler | null = null
  private whenClosed: (() => void) | null = null
  private run: Run | null = null

  constructor(
    private readonly endpoint: Endpoint,
    private readonly memory: SimulatedMemory,
    peer: string,
    private readonly onForgotten: () => void,
  ) {
    this.peer = peer
  }

  begin(handler: StreamHandler): void {
    this.handler = handler
    this.endpoint.attach({
      onBytes: (chunk) => this.deliver(chunk),
      onClosed: (error) => {
        this.endRun()
        this.onForgotten()
        handler.onClosed(error)
        this.whenClosed?.()
      },
    })
  }

  get unsentBytes(): number {
    return this.endpoint.outgoing.unsentBytes
  }

  write(bytes: Uint8Array): void {
    if (this.endpoint.isOpen) this.endpoint.outgoing.write(bytes.slice(), () => {})
  }

  writeBlock(block: Block, offset: number, length: number, release: () => void): void {
    const use = this.memory.useUnchanged(block, offset, length)
    const bytes = this.endpoint.isOpen ? block.bytes.subarray(offset, offset + length) : new Uint8Array(0)
    this.endpoint.outgoing.write(bytes, () => {
      use.end()
      release()
    })
  }

  receiveInto(block: Block, offset: number, length: number): void {
    if (this.run !== null) throw new Error('one run is received at a time')
    if (!(length > 0)) throw new Error('a run has a length above zero')
    if (this.endpoint.isOpen) {
      this.run = { block, offset, remaining: length, use: this.memory.useForFilling(block, offset, length) }
    }
  }

  pause(): void {
    if (this.endpoint.isOpen) this.endpoint.incoming.pause()
  }

  resume(): void {
    if (this.endpoint.isOpen) this.endpoint.incoming.resume()
  }

  end(): void {
    this.endRun()
    this.endpoint.end()
  }

  destroy(): void {
    this.endRun()
    this.endpoint.destroy()
  }

  destroyAndWait(): Promise<void> {
    return new Promise((resolve) => {
      this.whenClosed = resolve
      this.destroy()
    })
  }

  private deliver(chunk: Uint8Array): void {
    let at = 0
    while (at < chunk.byteLength && this.endpoint.isOpen) {
      const run = this.run
      if (run === null) {
        const rest = chunk.subarray(at)
        this.handler!.onBytes(rest)
        rest.fill(STALE)
        return
      }
      const count = Math.min(run.remaining, chunk.byteLength - at)
      run.block.bytes.set(chunk.subarray(at, at + count), run.offset)
      run.offset += count
      run.remaining -= count
      at += count
      if (run.remaining === 0) {
        this.endRun()
        this.handler!.onFilled()
      }
    }
  }

  private endRun(): void {
    this.run?.use.end()
    this.run = null
  }
}

/** The Network of one simulated process. */
export class SimulatedNetworkSide implements Network {
  private readonly streams = new Set<SimulatedStream>()
  /** What ends each dial that is under way. */
  private readonly dials = new Set<(reason: NetworkError) => void>()
  private readonly sockets = new Set<DatagramSocket>()
  private closed = false

  constructor(
    private readonly scheduler: Scheduler,
    private readonly network: SimulatedNetwork,
    private readonly host: string,
    private readonly process: SimulatedProcess,
    private readonly memory: SimulatedMemory,
  ) {}

  listen(...[options, accept]: Parameters<Network['listen']>): ReturnType<Network['listen']> {
    return this.network.listen(this.process, options, (end, from) => {
      this.connected(end, from, accept)
    })
  }

  dial(...[{ host, port, timeoutMs }, open]: Parameters<Network['dial']>): Promise<void> {
    const address = `${host}:${port}`
    const abandoned = (code: 'TIMED_OUT' | 'OTHER', why: string) =>
      new NetworkError(code, `connecting to ${address} failed: ${why}`)
    if (this.closed) return Promise.reject(abandoned('OTHER', 'the environment is closed'))
    return new Promise((resolve, reject) => {
      let over = false
      const finish = (settle: () => void) => {
        if (over) return
        over = true
        limit.cancel()
        this.dials.delete(fail)
        settle()
      }
      const fail = (reason: Error) => finish(() => reject(reason))
      const limit = this.scheduler.schedule(this.process, timeoutMs, 'dial limit', () =>
        fail(abandoned('TIMED_OUT', `no answer within ${timeoutMs} ms`)),
      )
      this.dials.add(fail)
      const opened = (end: Endpoint) => {
        if (over) end.destroy()
        finish(() => {
          this.connected(end, address, open)
          resolve()
        })
      }
      this.network.dial(this.process, this.host, host, port, opened, fail)
    })
  }

  async datagrams(...[options, receive]: Parameters<Network['datagrams']>): ReturnType<Network['datagrams']> {
    const socket = await this.network.datagrams(this.process, options, receive)
    this.sockets.add(socket)
    return socket
  }

  /** Ends what is still connected; resolves when every handler has been told. */
  async close(): Promise<void> {
    this.closed = true
    for (const fail of this.dials) fail(new NetworkError('OTHER', 'connecting failed: the environment is closed'))
    this.network.stopListening(this.process)
    for (const socket of this.sockets) await socket.close()
    await Promise.all([...this.streams].map((stream) => stream.destroyAndWait()))
  }

  private connected(end: Endpoint, peer: string, open: (stream: Stream) => StreamHandler): void {
    const stream = new SimulatedStream(end, this.memory, peer, () => this.streams.delete(stream))
    this.streams.add(stream)
    stream.begin(open(stream))
  }
}
