// Random schedules of three to five nodes: elections, crashes, slow disks, changes, installs, in any order.
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { Schedule } from './schedule.js'

const RUNS = Number(process.env.RAFT_SCHEDULES ?? 300)

test('no schedule breaks safety, and every one heals', () => {
  const total = { committed: 0, elections: 0, changes: 0, installs: 0, transfers: 0, repairs: 0 }
  fc.assert(
    fc.property(fc.nat(), fc.integer({ min: 1, max: 4 }), fc.integer({ min: 0, max: 3 }), (seed, voters, spares) => {
      const isLossy = spares === 3 && voters > 1
      const result = new Schedule({ seed, voters, spares: isLossy ? 0 : spares, isLossy }).run(400)
      for (const key of Object.keys(total) as (keyof typeof total)[]) total[key] += result[key]
    }),
    { numRuns: RUNS, endOnFailure: true },
  )
  // The rare things have happened, or the schedules prove less than they seem to.
  const { transfers, ...others } = total
  for (const count of Object.values(others)) expect(count).toBeGreaterThan(RUNS / 20)
  // One for each leader that gives its place away: TimeoutNow is said once.
  expect(transfers).toBeGreaterThan(RUNS / 100)
}, 120_000)
