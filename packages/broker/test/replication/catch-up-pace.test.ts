// How fast a new member is sent the past: by the rate, less where the broker has no time, and never too slow for what grows.
import { describe, expect, it } from 'vitest'
import { CatchUpPace } from '#src/replication/catch-up-pace.js'

const MIB = 1024 * 1024
const RATE = 64 * MIB

/** Bytes a second of reads of 1 MiB one after the other, each of which comes so much later than it should. */
function rateOf(lateMs: number, pastShare = 1): number {
  const clock = { nowMs: 0, monotonicMs: () => clock.nowMs }
  const pace = new CatchUpPace(clock, RATE)
  let bytes = 0
  while (clock.nowMs < 60_000) {
    clock.nowMs += pace.waitMs() + lateMs
    pace.sent(MIB, MIB * pastShare, lateMs)
    bytes += MIB
  }
  return (bytes * 1_000) / clock.nowMs
}

describe('the pace of a new member', () => {
  it('is the rate where there is time', () => {
    expect(rateOf(0) / RATE).toBeCloseTo(1, 1)
    expect(rateOf(2) / RATE).toBeGreaterThan(0.85)
  })

  it('leaves most of the time to others where there is none to spare', () => {
    // Read by read as soon as the turn comes it would be 48 and 20 MiB a second.
    expect(rateOf(20) / MIB).toBeLessThan(12)
    expect(rateOf(50) / MIB).toBeLessThan(8)
  })

  it('comes to an end however late it is', () => {
    expect(rateOf(200) / MIB).toBeGreaterThan(2)
  })

  it('costs nothing for what was appended meanwhile, so that a busy partition is caught up with', () => {
    expect(rateOf(20, 0) / MIB).toBeGreaterThan(45)
    expect(rateOf(20, 0.25) / rateOf(20)).toBeGreaterThan(2)
  })
})
