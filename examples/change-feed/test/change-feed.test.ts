// The feed is killed between transactions, and what it kept is exact all the same.
import { expect, test } from 'vitest'
import { run } from '../dist/main.js'

test('every booking counts once, however often the feed is killed', async () => {
  expect(await run(4_000, 3)).toEqual({ bookings: 4_000, kills: 3, wrong: 0 })
})
