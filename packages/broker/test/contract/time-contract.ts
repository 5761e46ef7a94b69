// Contract of Clock, Random and Cores.
import { describe, expect, it } from 'vitest'
import type { ContractSideFactory } from './contract-side.js'
import { sleep, useSide } from './fixture.js'

export function describeTimeContract(factory: ContractSideFactory): void {
  describe('clock', () => {
    const side = useSide(factory)

    it('never goes back, and moves', async () => {
      const { clock } = side().environment
      let last = clock.monotonicMs()
      for (let i = 0; i < 10; i++) {
        await sleep(side().environment, 1)
        const now = clock.monotonicMs()
        expect(now).toBeGreaterThan(last)
        last = now
      }
    })

    it('tells wall time in whole milliseconds', () => {
      const wall = side().environment.clock.wallMs()
      expect(Number.isInteger(wall)).toBe(true)
      expect(wall).toBeGreaterThan(Date.UTC(2020, 0))
    })

    it('fires timers once, not early, shorter ones first', async () => {
      const { clock } = side().environment
      const begun = clock.monotonicMs()
      const fired: { delayMs: number; afterMs: number }[] = []
      const delays = [30, 1, 12, 0, 30]
      await Promise.all(
        delays.map(
          (delayMs) =>
            new Promise<void>((resolve) => {
              clock.timer(delayMs, () => {
                fired.push({ delayMs, afterMs: clock.monotonicMs() - begun })
                resolve()
              })
            }),
        ),
      )
      await sleep(side().environment, 40)
      expect(fired.map(({ delayMs }) => delayMs).filter((delayMs) => delayMs > 1)).toEqual([12, 30, 30])
      expect(fired).toHaveLength(delays.length)
      for (const { delayMs, afterMs } of fired) expect(afterMs).toBeGreaterThanOrEqual(delayMs)
    })

    it('does not fire a cancelled timer, and cancelling late is harmless', async () => {
      const { clock } = side().environment
      let cancelled = 0
      let fired = 0
      const early = clock.timer(5, () => cancelled++)
      const late = clock.timer(1, () => fired++)
      early.cancel()
      early.cancel()
      await sleep(side().environment, 20)
      late.cancel()
      expect([cancelled, fired]).toEqual([0, 1])
    })

    it('runs deferred callbacks once, in order, after the current turn and before timers of the future', async () => {
      const { clock } = side().environment
      const order: string[] = []
      await new Promise<void>((resolve) => {
        clock.timer(20, () => {
          order.push('timer')
          resolve()
        })
        clock.defer(() => {
          order.push('first')
          clock.defer(() => order.push('nested'))
        })
        clock.defer(() => order.push('second'))
        void Promise.resolve().then(() => order.push('microtask'))
        order.push('now')
      })
      expect(order).toEqual(['now', 'microtask', 'first', 'second', 'nested', 'timer'])
    })
  })

  describe('random', () => {
    const side = useSide(factory)

    it('draws from the whole range of 32 bits', () => {
      const { random } = side().environment
      const drawn = Array.from({ length: 1000 }, () => random.uint32())
      expect(drawn.every((value) => Number.isInteger(value) && value >= 0 && value < 2 ** 32)).toBe(true)
      expect(drawn.filter((value) => value >= 2 ** 31).length).toBeGreaterThan(350)
      expect(new Set(drawn).size).toBeGreaterThan(990)
    })

    it('fills exactly the bytes given', () => {
      const bytes = new Uint8Array(64)
      side().environment.random.fill(bytes.subarray(8, 56))
      expect(bytes.subarray(0, 8).every((byte) => byte === 0)).toBe(true)
      expect(bytes.subarray(56).every((byte) => byte === 0)).toBe(true)
      expect(bytes.subarray(8, 56).some((byte) => byte !== 0)).toBe(true)
    })
  })

  it('knows its place among the cores', async () => {
    const side = await factory({ memoryBytes: 1024 * 1024 })
    expect(side.environment.cores).toMatchObject({ self: 0, count: 1 })
    await side.close()
  })
}
