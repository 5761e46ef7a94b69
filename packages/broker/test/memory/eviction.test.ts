// What stays in memory under simple traces of page requests, next to the textbook's policies.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { FrameClock } from '#src/memory/frame-clock.js'
import { frameOf, HIT, LOAD, outcomeOf, PageTable } from '#src/memory/page-table.js'
import { geometryFor, TableLayout } from '#src/memory/table-layout.js'

const FRAMES = 256

interface Policy {
  /** Whether the page was there; it is afterwards. */
  ask(page: number): boolean
}

/** The pool's own table and clock. */
class PoolPolicy implements Policy {
  private readonly table: PageTable
  private readonly clock: FrameClock

  constructor(frames: number) {
    const layout = new TableLayout(geometryFor(frames))
    const words = new Int32Array(new SharedArrayBuffer(layout.byteLength))
    layout.begin(words)
    this.table = new PageTable(layout, words, Atomics)
    this.clock = new FrameClock(this.table)
  }

  ask(page: number): boolean {
    const found = this.table.find(1, 1, page)
    if (outcomeOf(found) === HIT) {
      this.clock.touch(frameOf(found))
      this.table.unpin(frameOf(found))
      return true
    }
    const frame = this.clock.claim(false)
    const result = this.table.publish(frame, 1, 1, page, false)
    if (outcomeOf(result) !== LOAD) throw new Error(`page ${page} found no place`)
    this.clock.noteLoad(frame, 1, 1, page, false)
    this.table.loaded(frame, 1)
    this.table.unpin(frame)
    return false
  }
}

class Lru implements Policy {
  private readonly pages = new Set<number>()
  constructor(private readonly frames: number) {}

  ask(page: number): boolean {
    const isHit = this.pages.delete(page)
    this.pages.add(page)
    if (this.pages.size > this.frames) for (const oldest of this.pages) return this.pages.delete(oldest) && isHit
    return isHit
  }
}

/** A hand over one bit a frame. */
class SecondChance implements Policy {
  private readonly frameOfPage = new Map<number, number>()
  private readonly pages: number[] = []
  private readonly asked: boolean[] = []
  private hand = 0
  constructor(private readonly frames: number) {}

  ask(page: number): boolean {
    const known = this.frameOfPage.get(page)
    if (known !== undefined) {
      this.asked[known] = true
      return true
    }
    while (this.asked[this.hand] === true) {
      this.asked[this.hand] = false
      this.hand = (this.hand + 1) % this.frames
    }
    const frame = this.hand
    this.hand = (this.hand + 1) % this.frames
    if (this.pages[frame] !== undefined) this.frameOfPage.delete(this.pages[frame])
    this.pages[frame] = page
    this.frameOfPage.set(page, frame)
    return false
  }
}

type Trace = (random: SeededRandom, step: number) => number

/** Some pages much more often than others, with a long scan in every third stretch. */
const popularAndScans: Trace = (random, step) => {
  if (Math.floor(step / 4_000) % 3 === 2) return 100_000 + step
  return Math.floor(random.fraction() ** 4 * 2_000)
}
/** Cursors that stay within a hot end of the log, and one that reads everything from the beginning, again and again. */
const tailAndCatchUp: Trace = (random, step) => {
  if (step % 2 === 0) return random.below(180)
  return 1_000 + ((step >>> 1) % 3_000)
}
/** Four cursors that follow the log one after the other, each a step behind the last. */
const followers: Trace = (_, step) => Math.max(0, (step >>> 2) - (step % 4) * 20)
/** Everything once. */
const scan: Trace = (_, step) => step

function hitRatio(policy: Policy, trace: Trace): number {
  const random = new SeededRandom(5)
  const steps = 60_000
  let hits = 0
  for (let step = 0; step < steps; step++) if (policy.ask(trace(random, step))) hits++
  return hits / steps
}

describe('what stays in memory', () => {
  const ratios = (trace: Trace) => ({
    pool: hitRatio(new PoolPolicy(FRAMES), trace),
    lru: hitRatio(new Lru(FRAMES), trace),
    clock: hitRatio(new SecondChance(FRAMES), trace),
  })

  it('is what is asked for again, whatever is read once', () => {
    const mixed = ratios(popularAndScans)
    // Measured: 0.342 against 0.310 and 0.317.
    expect(mixed.pool).toBeGreaterThan(Math.max(mixed.lru, mixed.clock) + 0.015)
    const tail = ratios(tailAndCatchUp)
    // Measured: 0.494 of 0.5 that can be had, against 0.287 and 0.317.
    expect(tail.pool).toBeGreaterThan(Math.max(tail.lru, tail.clock) + 0.15)
  })

  it('serves cursors that follow each other, and nobody who comes once', () => {
    // Measured: 0.744 of 0.75 that can be had.
    expect(ratios(followers).pool).toBeGreaterThan(0.73)
    expect(ratios(scan).pool).toBe(0)
  })
})
