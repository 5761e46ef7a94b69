// Replicas that cannot be opened, or are damaged beyond repair: tried again, less and less often.
import { expect, it } from 'vitest'
import { ReplicaRetry } from '#src/cluster/replica-retry.js'
import { LONGEST_REPLICA_RETRY_MS } from '#src/limits.js'
import type { LackingReplica } from '#src/shard.js'
import { TestClock } from '../partition/fixture.js'

const KEY = { topicId: 1, partition: 0, lane: 0 }

async function runFor(lacking: LackingReplica[], ms: number, haveOthersAll: () => boolean = () => false) {
  const clock = new TestClock()
  const done: (readonly [string, number])[] = []
  const beganMs = clock.monotonicMs()
  const note = async (what: string): Promise<void> => {
    done.push([what, (clock.monotonicMs() - beganMs) / 1000])
  }
  const retry = new ReplicaRetry({
    clock,
    lacking: () => lacking,
    reopen: () => note('reopen'),
    haveOthersAll: async () => haveOthersAll(),
    renew: async () => {
      await note('renew')
      lacking.length = 0
    },
    report: (error) => {
      throw error
    },
  })
  retry.start()
  for (let at = 0; at < ms; at += 500) {
    clock.advance(500)
    for (let i = 0; i < 4; i++) await new Promise((resolve) => setImmediate(resolve))
  }
  retry.stop()
  return done
}

it('opens what could not be opened again and again, after pauses that grow up to a limit', async () => {
  const done = await runFor([{ key: KEY, reason: 'no memory', isDamaged: false }], 120_000)
  const times = done.map(([, seconds]) => seconds)
  expect(times.slice(0, 4)).toEqual([1, 2, 4, 8])
  const longest = Math.max(...times.slice(1).map((seconds, i) => seconds - times[i]!))
  expect(longest).toBe(LONGEST_REPLICA_RETRY_MS / 1000)
})

it('gives up what is damaged only once others have all of it, and once', async () => {
  const damaged = () => [{ key: KEY, reason: 'damaged', isDamaged: true }]
  expect(await runFor(damaged(), 60_000)).toEqual([])
  let asked = 0
  expect(await runFor(damaged(), 60_000, () => ++asked > 2)).toEqual([['renew', 4]])
})
