// What a node still holds, by what the brokers say: partitions that nobody leads for the moment are asked for again.
import { expect, it } from 'vitest'
import type { TopicDefinition } from '#src/cluster/metadata-command.js'
import { heldOnceLed, PlacementSurvey, type Surveyed } from '#src/cluster/placement-survey.js'
import { ELECTIONS_WAIT_MS } from '#src/limits.js'
import { TestClock } from '../partition/fixture.js'

const TOPIC: TopicDefinition = {
  topicId: 1,
  name: 'orders',
  partitions: 1,
  replicas: [[1, 3, 4]],
  founders: [[1, 3, 4]],
  durability: 'flushed',
  codecs: ['none'],
  retentionMs: null,
  retentionBytes: null,
}

/** Node 2 has given its replica back in the eyes of the group, and has yet to hear so. */
const TESTIMONY = {
  topicId: 1,
  partition: 0,
  isHere: true,
  isRepairing: false,
  term: 1,
  index: 9,
  voters: [1, 3, 4],
  outgoing: [],
  learners: [],
}

/** @param ledFromMs when node 1 begins to lead the partition. */
async function heldOf(ledFromMs: number, endMs = Number.POSITIVE_INFINITY) {
  const clock = new TestClock()
  const beganMs = clock.monotonicMs()
  const sinceMs = () => clock.monotonicMs() - beganMs
  const surveyed: Surveyed = {
    ledPartitions: async () => [[1, { led: sinceMs() < ledFromMs ? [] : [[1, [0]]], moves: [], hasMore: false }]],
    testimonies: async () => [[2, [TESTIMONY]]],
  }
  const survey = () => PlacementSurvey.take(() => [TOPIC], surveyed)
  let isSettled = false
  const asked = heldOnceLed({ nodeId: 2, survey, clock, endMs: beganMs + endMs })
    .then((held) => ({ ...held, afterMs: sinceMs() }))
    .finally(() => {
      isSettled = true
    })
  while (!isSettled) {
    for (let i = 0; i < 8; i++) await new Promise((resolve) => setImmediate(resolve))
    if (!isSettled) clock.advance(50)
  }
  return asked
}

it('holds nothing once an election that was under way is over', async () => {
  expect(await heldOf(0)).toEqual({ held: 0, leaderless: 0, afterMs: 0 })
  expect(await heldOf(1_000)).toEqual({ held: 0, leaderless: 0, afterMs: 1_000 })
})

it('may hold what nobody leads for long, and whoever asks is told in time', async () => {
  expect(await heldOf(60_000)).toEqual({ held: 0, leaderless: 1, afterMs: ELECTIONS_WAIT_MS })
  expect(await heldOf(60_000, 300)).toEqual({ held: 0, leaderless: 1, afterMs: 300 })
})
