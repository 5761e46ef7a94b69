// The Node side: real sockets, real compression, and a process that ends when it should.
import { once } from 'node:events'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import type { Link, LinkHandler } from '@millrace/client/environment'
import { crc32 } from '@millrace/protocol'
import { afterEach, describe, expect, test } from 'vitest'
import { nodeEnvironment } from '#src/links/node-environment.js'
import { runModule } from '../support/programs.js'

const environment = nodeEnvironment()
const servers: Server[] = []

async function listen(onSocket: (socket: Socket) => void, host = '127.0.0.1'): Promise<number> {
  const server = createServer(onSocket)
  servers.push(server)
  server.listen(0, host)
  await once(server, 'listening')
  return (server.address() as AddressInfo).port
}

afterEach(async () => {
  for (const server of servers.splice(0)) {
    server.close()
    await once(server, 'close')
  }
})

class Recorder implements LinkHandler {
  readonly events: string[] = []
  readonly chunks: Uint8Array[] = []
  closedWith: Error | null | undefined = undefined
  #waiters: (() => void)[] = []

  onOpen(): void {
    this.#note('open')
  }

  onBytes(chunk: Uint8Array): void {
    this.chunks.push(chunk)
    this.#note('bytes')
  }

  onDrain(): void {
    this.#note('drain')
  }

  onClosed(error: Error | null): void {
    this.closedWith = error
    this.#note('closed')
  }

  #note(event: string): void {
    this.events.push(event)
    for (const waiter of this.#waiters.splice(0)) waiter()
  }

  async until(done: () => boolean): Promise<void> {
    while (!done()) await new Promise<void>((resolve) => this.#waiters.push(resolve))
  }

  saw(event: string): Promise<void> {
    return this.until(() => this.events.includes(event))
  }
}

const dial = (port: number, handler: LinkHandler, host = '127.0.0.1'): Link => environment.dial(host, port, handler)

describe('a TCP link', () => {
  test('carries bytes both ways, in order, and drains', async () => {
    const received: Buffer[] = []
    const port = await listen((socket) => {
      socket.on('data', (chunk) => {
        received.push(chunk)
        socket.write(chunk)
      })
      socket.on('error', () => {})
    })
    const recorder = new Recorder()
    const link = dial(port, recorder)
    await recorder.saw('open')
    const chunks = Array.from({ length: 300 }, (_, i) => new Uint8Array(1_000).fill(i))
    link.write(chunks)
    link.write([])
    const sum = (list: readonly Uint8Array[]): number => list.reduce((total, { length }) => total + length, 0)
    await recorder.until(() => sum(recorder.chunks) === 300_000)
    await recorder.saw('drain')
    expect(link.unsentBytes).toBe(0)
    expect(Buffer.concat(recorder.chunks).equals(Buffer.concat(chunks))).toBe(true)
    expect(Buffer.concat(received).length).toBe(300_000)
    // Plain views: slice() copies, as the rest of the client expects.
    expect(Object.getPrototypeOf(recorder.chunks[0])).toBe(Uint8Array.prototype)
    link.destroy()
    await recorder.saw('closed')
    expect(recorder.closedWith).toBe(null)
  })

  test('puts bytes where they belong when there is a place for them, and what is small elsewhere', async () => {
    const sent = new Uint8Array(1_000_000).map((_, i) => i % 251)
    const port = await listen((socket) => {
      socket.on('error', () => {})
      socket.end(sent)
    })
    /** Wants everything from the thousandth byte on in one piece, but for the last hundred bytes. */
    class Placed extends Recorder {
      readonly place = new Uint8Array(998_900)
      placed = 0

      /** Bytes that came without a place. */
      get received(): number {
        return this.chunks.reduce((sum, { length }) => sum + length, 0)
      }

      room(): Uint8Array | null {
        const begun = this.received >= 1_000 && this.placed < this.place.length
        return begun ? this.place.subarray(this.placed) : null
      }

      override onBytes(chunk: Uint8Array): void {
        // More than the beginning may come at once; it is copied then, as the receiver of a frame does.
        if (this.placed < this.place.length) {
          const from = Math.max(0, 1_000 - this.received)
          const taken = chunk.subarray(from, from + this.place.length - this.placed)
          this.place.set(taken, this.placed)
          this.placed += taken.length
        }
        super.onBytes(chunk)
      }

      onFilled(byteLength: number): void {
        this.placed += byteLength
        this.events.push('filled')
      }
    }
    const recorder = new Placed()
    dial(port, recorder)
    await recorder.saw('closed')
    expect(recorder.closedWith).toBe(null)
    expect(recorder.placed).toBe(recorder.place.length)
    expect(Buffer.from(recorder.place).equals(sent.subarray(1_000, 999_900))).toBe(true)
    expect(recorder.events).toContain('filled')
    // What was read without a place belongs to whoever got it: no chunk changes when the next one comes.
    expect(new Set(recorder.chunks.map(({ buffer }) => buffer)).size).toBe(recorder.chunks.length)
    expect(recorder.received).toBeLessThan(200_000)
    expect(Buffer.concat(recorder.chunks).subarray(-100).equals(sent.subarray(999_900))).toBe(true)
  })

  test('counts unsent bytes, and tells when they are gone', async () => {
    let reader: Socket | null = null
    const port = await listen((socket) => {
      reader = socket
      socket.pause()
      socket.on('error', () => {})
    })
    const recorder = new Recorder()
    const link = dial(port, recorder)
    await recorder.saw('open')
    link.write([new Uint8Array(20_000_000)])
    expect(link.unsentBytes).toBeGreaterThan(0)
    await new Promise((resolve) => setTimeout(resolve, 20))
    expect(recorder.events).not.toContain('drain')
    reader!.resume()
    await recorder.saw('drain')
    expect(link.unsentBytes).toBe(0)
    link.destroy()
    await recorder.saw('closed')
  })

  test('pause holds bytes back, resume lets them come', async () => {
    const port = await listen((socket) => {
      socket.on('error', () => {})
      socket.on('data', () => socket.write('answer'))
    })
    const recorder = new Recorder()
    const link = dial(port, recorder)
    await recorder.saw('open')
    link.pause()
    link.write([new Uint8Array(1)])
    await new Promise((resolve) => setTimeout(resolve, 30))
    expect(recorder.chunks).toEqual([])
    link.resume()
    await recorder.saw('bytes')
    link.ref()
    link.unref()
    link.destroy()
    await recorder.saw('closed')
  })

  test('a refused connection, a name that does not resolve, an orderly end, a reset', async () => {
    const port = await listen(() => {})
    servers[0]!.close()
    const refused = new Recorder()
    dial(port, refused)
    await refused.saw('closed')
    expect(String(refused.closedWith)).toContain('ECONNREFUSED')
    expect(refused.events).toEqual(['closed'])
    servers.length = 0

    const unresolved = new Recorder()
    dial(7420, unresolved, 'name.invalid')
    await unresolved.saw('closed')
    expect(unresolved.closedWith).toBeInstanceOf(Error)

    const ended = new Recorder()
    dial(await listen((socket) => socket.end('bye')), ended)
    await ended.saw('closed')
    expect(ended.closedWith).toBe(null)
    expect(Buffer.concat(ended.chunks).toString()).toBe('bye')

    const reset = new Recorder()
    const link = dial(
      await listen((socket) => {
        socket.on('error', () => {})
        socket.on('data', () => socket.resetAndDestroy())
      }),
      reset,
    )
    await reset.saw('open')
    link.write([new Uint8Array(10)])
    await reset.saw('closed')
    expect(reset.closedWith).toBeInstanceOf(Error)
    expect(reset.events.filter((event) => event === 'closed').length).toBe(1)
    // Calls after the end are ignored.
    link.write([new Uint8Array(10)])
    link.pause()
    link.destroy()
    expect(link.unsentBytes).toBe(0)
  })

  test('destroyed before it is open', async () => {
    const port = await listen(() => {})
    const recorder = new Recorder()
    const link = dial(port, recorder)
    link.write([new Uint8Array(10)])
    link.destroy()
    await recorder.saw('closed')
    expect(recorder.events).toEqual(['closed'])
  })
})

describe('the rest', () => {
  test('checksum agrees with the protocol, whatever the runtime has', () => {
    const bytes = new Uint8Array(10_001).map((_, i) => i * 7)
    expect(environment.checksum(bytes, 0)).toBe(crc32(bytes, 0))
    expect(environment.checksum(bytes.subarray(500), environment.checksum(bytes.subarray(0, 500), 0))).toBe(
      crc32(bytes, 0),
    )
  })

  test('gzip and back, never more than allowed', () => {
    const { codec } = environment
    const bytes = new Uint8Array(100_000).fill(7)
    const packed = codec.gzip(bytes)
    expect(codec.gunzip(packed, 100_000)).toEqual(bytes)
    expect(() => codec.gunzip(packed, 99_999)).toThrow()
    expect(() => codec.gunzip(packed, 0)).toThrow()
    expect(() => codec.gunzip(new Uint8Array([1, 2, 3]), 10)).toThrow()
  })

  test('time goes on, chance varies, deferred work runs', async () => {
    const startMs = environment.monotonicMs()
    await new Promise<void>((resolve) => {
      environment.timer(5, resolve)
    })
    expect(environment.monotonicMs()).toBeGreaterThan(startMs)
    expect(Math.abs(environment.wallMs() - Date.now())).toBeLessThan(1_000)
    const bytes = new Uint8Array(64)
    environment.fillRandom(bytes)
    expect(new Set(bytes).size).toBeGreaterThan(8)
    expect(environment.random()).toBeLessThan(1)
    await new Promise<void>((resolve) => environment.defer(resolve))
    const timer = environment.timer(1, () => {
      throw new Error('was cancelled')
    })
    timer.cancel()
    timer.cancel()
    expect(environment.defaultClientId).toContain(String(process.pid))
  })
})

describe('a process', () => {
  const imports = `import { connect, topic, utf8 } from '@millrace/client'; const T = topic('t', { key: utf8, value: utf8 });`

  test('ends while the client is idle, also one that nobody closed', async () => {
    const { code, output } = await runModule(`${imports} connect({ bootstrap: '127.0.0.1:1' }); console.log('end')`)
    expect({ code, output }).toEqual({ code: 0, output: 'end' })
  })

  test('a send that nobody awaits keeps it alive until it failed, does not end it badly, and is told as a warning', async () => {
    const { code, output } = await runModule(
      `${imports} void connect({ bootstrap: '127.0.0.1:1', connectTimeoutMs: 700 }).producer(T).send('a', 'b')
       process.on('exit', () => console.log('alive for', Math.round(performance.now() / 100) * 100))`,
    )
    expect(code).toBe(0)
    expect(output).toContain('MILLRACE_UNREACHABLE')
    expect(output).toMatch(/127\.0\.0\.1:1: .*ECONNREFUSED/)
    expect(Number(/alive for (\d+)/.exec(output)![1])).toBeGreaterThanOrEqual(700)
  })

  test('close ends with brokers down, at once', async () => {
    const { code, output } = await runModule(
      `${imports} const mill = connect({ bootstrap: '127.0.0.1:1', wait: true })
       mill.producer(T).send('a', 'b').catch((error) => console.log(error.code, error.outcome))
       mill.consumer().subscribe(T).subscribe({ complete: () => console.log('completed') })
       setTimeout(() => mill.close({ timeoutMs: 100 }).catch((error) => console.log(error.code)), 300)`,
    )
    expect(code).toBe(0)
    expect(output).toContain('completed')
    expect(output).toContain('ERR_MILLRACE_CLOSED failed')
    expect(output).toContain('ERR_MILLRACE_DELIVERY')
  })
})
