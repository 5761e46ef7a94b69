// How often a node is woken up for its groups.
import { expect, it } from 'vitest'
import type { Clock } from '#src/environment.js'
import { TickTimer } from '#src/replication/tick-timer.js'

/** Time that only moves when it is told to. */
class HandClock implements Clock {
  nowMs = 0
  private readonly timers = new Map<number, { readonly atMs: number; readonly callback: () => void }>()
  private made = 0

  monotonicMs = (): number => this.nowMs
  wallMs = (): number => this.nowMs
  defer = (callback: () => void): void => callback()

  timer(delayMs: number, callback: () => void): { cancel(): void } {
    const id = this.made++
    this.timers.set(id, { atMs: this.nowMs + delayMs, callback })
    return { cancel: () => void this.timers.delete(id) }
  }

  runTo(endMs: number): void {
    for (;;) {
      const [next] = [...this.timers].filter(([, { atMs }]) => atMs <= endMs).sort(([, a], [, b]) => a.atMs - b.atMs)
      if (next === undefined) break
      this.timers.delete(next[0])
      this.nowMs = next[1].atMs
      next[1].callback()
    }
    this.nowMs = endMs
  }
}

function timed() {
  const clock = new HandClock()
  const use = { busy: 0, resting: 0 }
  const wakes: [atMs: number, ticks: number][] = []
  const timer = new TickTimer(clock, {
    isBusy: () => use.busy > 0,
    isInUse: () => use.busy + use.resting > 0,
    ticked: (count) => wakes.push([clock.nowMs, count]),
  })
  return { clock, use, wakes, timer }
}

it('wakes up for each tick that a group counts, half as often for those at rest, and never for nobody', () => {
  const { clock, use, wakes, timer } = timed()
  timer.look()
  clock.runTo(1_000)
  expect(wakes).toEqual([])
  use.busy = 1
  timer.look()
  clock.runTo(2_000)
  expect(wakes).toHaveLength(20)
  use.busy = 0
  use.resting = 1
  timer.look()
  wakes.length = 0
  clock.runTo(4_050)
  expect(wakes).toHaveLength(21)
  expect(wakes.slice(1).every(([, ticks]) => ticks === 2)).toBe(true)
  use.resting = 0
  clock.runTo(5_000)
  wakes.length = 0
  clock.runTo(6_000)
  expect(wakes).toEqual([])
})

it('loses no tick and adds none when a group wakes up between two', () => {
  for (const wakesAtMs of [1, 30, 51, 99, 120, 149]) {
    const { clock, use, wakes, timer } = timed()
    use.resting = 1
    timer.look()
    clock.runTo(wakesAtMs)
    use.busy = 1
    timer.look()
    clock.runTo(1_000)
    expect(wakes.reduce((sum, [, ticks]) => sum + ticks, 0)).toBe(20)
    // It waits for no more than a tick.
    expect(wakes.find(([atMs]) => atMs >= wakesAtMs)![0] - wakesAtMs).toBeLessThanOrEqual(50)
  }
})

it('stops for good', () => {
  const { clock, use, wakes, timer } = timed()
  use.busy = 1
  timer.look()
  timer.stop()
  timer.look()
  clock.runTo(1_000)
  expect(wakes).toEqual([])
})
