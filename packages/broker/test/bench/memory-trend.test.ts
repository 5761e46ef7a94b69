// The judgement of the soak: flat is flat, a leak is a leak, and what fills up at first is neither.
import { describe, expect, it } from 'vitest'
import { trendOf } from '../../bench/support/memory-trend.js'

const LIMIT_MB = 400
const WARM_UP_MS = 240_000

/** A quarter of an hour, sampled each second, with a little noise. */
const samples = (mbAt: (seconds: number) => number) =>
  Array.from({ length: 900 }, (_, i) => ({ atMs: i * 1000, mb: mbAt(i) + ((i * 7) % 5) / 2 }))

const judge = (mbAt: (seconds: number) => number, judgesSlope = true) =>
  trendOf(samples(mbAt), WARM_UP_MS, LIMIT_MB, judgesSlope)

describe('the trend of memory', () => {
  it('is flat when memory fills up and stays', () => {
    const trend = judge((seconds) => 300 - 200 * Math.exp(-seconds / 40))
    expect(trend.failure).toBeNull()
    expect(Math.abs(trend.mbPerHour)).toBeLessThan(20)
    expect(trend.startMb).toBeLessThan(110)
  })

  it('is a leak when it rises by 80 MB an hour, and says by how much', () => {
    const trend = judge((seconds) => 300 + (seconds * 80) / 3600)
    expect(trend.failure).toMatch(/rises steadily, by 1\d\.\d MB/)
    expect(trend.mbPerHour).toBeGreaterThan(75)
    expect(trend.mbPerHour).toBeLessThan(85)
  })

  it('is not judged by its slope where the run is too short for that', () => {
    expect(judge((seconds) => 300 + (seconds * 80) / 3600, false).failure).toBeNull()
  })

  it('may go up and down', () => {
    expect(judge((seconds) => 300 + 40 * Math.sin(seconds / 90)).failure).toBeNull()
  })

  it('is too much when one sample is above the limit', () => {
    expect(judge((seconds) => (seconds === 500 ? 401 : 100), false).failure).toMatch(/more than the 400 MB allowed/)
  })
})
