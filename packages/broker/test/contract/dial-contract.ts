// Contract of Network.dial, and of the boot id.
import { describe, expect, it } from 'vitest'
import { NetworkError, type Stream, type StreamHandler } from '#src/environment.js'
import type { ContractSideFactory } from './contract-side.js'
import { concatenate, eventually, pattern, sameBytes, useSide } from './fixture.js'
import { Recorder } from './network-contract.js'

interface Connected {
  readonly stream: Stream
  readonly handler: Recorder
}

export function describeDialContract(factory: ContractSideFactory): void {
  describe('dial', () => {
    const side = useSide(factory)
    const until = (what: string, holds: () => boolean) => eventually(side().environment, what, holds)

    /** Listens; `prepare` sees each accepted stream before its handler is known. */
    async function listen(
      prepare: (stream: Stream) => void = () => {},
    ): Promise<{ port: number; accepted: Connected[] }> {
      const accepted: Connected[] = []
      const { port } = await side().environment.network.listen({ host: side().host, port: 0 }, (stream) => {
        prepare(stream)
        return noted(accepted, stream)
      })
      return { port, accepted }
    }

    async function dial(port: number, prepare: (stream: Stream) => void = () => {}): Promise<Connected> {
      const opened: Connected[] = []
      await side().environment.network.dial({ host: side().host, port, timeoutMs: 5000 }, (stream) => {
        prepare(stream)
        return noted(opened, stream)
      })
      expect(opened).toHaveLength(1)
      return opened[0]!
    }

    /** How a dial ended, which must not call `open` unless it connects, and how long that took. */
    async function outcome(address: { host: string; port: number }, timeoutMs: number) {
      const { clock, network } = side().environment
      const beganMs = clock.monotonicMs()
      let opened = 0
      const open = (): StreamHandler => {
        opened++
        return new Recorder()
      }
      const error = await network.dial({ ...address, timeoutMs }, open).then(
        () => null,
        (cause: unknown) => cause,
      )
      expect(opened).toBe(error === null ? 1 : 0)
      return { error, tookMs: clock.monotonicMs() - beganMs }
    }

    it('connects, and both sides talk', async () => {
      const { port, accepted } = await listen()
      const dialed = await dial(port)
      expect(dialed.stream.peer).toMatch(/.+:\d+/)
      await until('it is accepted', () => accepted.length === 1)
      const sizes = [1, 1000, 70_000, 1_000_000]
      for (const [i, size] of sizes.entries()) {
        dialed.stream.write(pattern(size, i))
        accepted[0]!.stream.write(pattern(size, 10 + i))
      }
      const total = sizes.reduce((sum, size) => sum + size, 0)
      await until('all of it has arrived', () =>
        [dialed, accepted[0]!].every(({ handler }) => handler.receivedBytes === total),
      )
      const sent = (seed: number) => concatenate(sizes.map((size, i) => pattern(size, seed + i)))
      expect(sameBytes(concatenate(accepted[0]!.handler.chunks), sent(0))).toBe(true)
      expect(sameBytes(concatenate(dialed.handler.chunks), sent(10))).toBe(true)
      dialed.stream.end()
      await until('both are told of the end', () =>
        [dialed, accepted[0]!].every(({ handler }) => handler.closed !== null),
      )
      expect(dialed.handler.closed).toEqual({ error: null })
    })

    it('gives the handler what arrives at once, and sends what is written while it opens', async () => {
      const { port, accepted } = await listen((stream) => stream.write(pattern(5000, 1)))
      const dialed = await dial(port, (stream) => stream.write(pattern(3000, 2)))
      await until('the greeting arrives', () => dialed.handler.receivedBytes === 5000)
      await until('the answer arrives', () => accepted[0]?.handler.receivedBytes === 3000)
      expect(sameBytes(concatenate(dialed.handler.chunks), pattern(5000, 1))).toBe(true)
      expect(sameBytes(concatenate(accepted[0]!.handler.chunks), pattern(3000, 2))).toBe(true)
    })

    it('is refused where nobody listens', async () => {
      const { host, environment } = side()
      const listener = await environment.network.listen({ host, port: 0 }, () => new Recorder())
      await listener.close()
      const { error } = await outcome({ host, port: listener.port }, 5000)
      expect(error).toBeInstanceOf(NetworkError)
      expect(error).toMatchObject({ code: 'REFUSED', message: expect.stringContaining(`${host}:${listener.port}`) })
    })

    it('gives up on an address that does not answer, neither early nor late', async () => {
      const { error, tookMs } = await outcome(await side().blackHole(), 150)
      expect(error).toBeInstanceOf(NetworkError)
      expect(error).toMatchObject({ code: 'TIMED_OUT' })
      // Clocks that count whole milliseconds may be one off at either end.
      expect(tookMs).toBeGreaterThanOrEqual(148)
      expect(tookMs).toBeLessThan(1500)
    })

    it('ends a dial in flight when the environment closes, and refuses one after that', async () => {
      const hole = await side().blackHole()
      const dialing = Promise.all([outcome(hole, 60_000), outcome(hole, 60_000)])
      await new Promise<void>((resolve) => side().environment.clock.timer(20, resolve))
      await side().environment.close()
      for (const { error, tookMs } of await dialing) {
        expect(error).toBeInstanceOf(NetworkError)
        expect(error).toMatchObject({ code: 'OTHER' })
        expect(tookMs).toBeLessThan(5000)
      }
      expect((await outcome(hole, 1000)).error).toMatchObject({ name: 'NetworkError', code: 'OTHER' })
    })

    it('dials a hundred at once', async () => {
      const { port, accepted } = await listen()
      const dialed = await Promise.all(Array.from({ length: 100 }, () => dial(port)))
      for (const [i, { stream }] of dialed.entries()) stream.write(pattern(100 + i, i))
      await until('every one is heard', () => {
        const lengths = accepted.map(({ handler }) => handler.receivedBytes).sort((a, b) => a - b)
        return lengths.length === 100 && lengths.every((length, i) => length === 100 + i)
      })
      for (const { stream } of dialed) stream.destroy()
      await until('every one is told', () => [...dialed, ...accepted].every(({ handler }) => handler.closed !== null))
    })

    it('names the run of the kernel', async () => {
      const { bootId } = side().environment
      expect(bootId.length).toBeGreaterThanOrEqual(8)
      expect(side().environment.bootId).toBe(bootId)
    })
  })
}

function noted(into: Connected[], stream: Stream): Recorder {
  const handler = new Recorder()
  into.push({ stream, handler })
  return handler
}
