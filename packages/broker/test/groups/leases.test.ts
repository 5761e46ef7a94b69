// Leases: who signs in time keeps his, who does not is told to the coordinator once, and nobody too early.
import { SeededRandom } from '@millrace/protocol'
import { expect, test } from 'vitest'
import { Leases } from '#src/groups/leases.js'

const member = (id: number, memberEpoch = 1, leaseMs = 100) => ({
  group: 'g',
  memberId: BigInt(id),
  memberEpoch,
  leaseMs,
})

test('a lease that is renewed goes on, and one that is not is told once', () => {
  const leases = new Leases()
  expect(leases.earliestMs).toBe(Number.POSITIVE_INFINITY)
  leases.grant(member(1), 0)
  leases.grant(member(2), 0)
  expect(leases.earliestMs).toBe(100)
  expect(leases.renew('g', 1n, 1, 60)).toBe(true)
  expect(leases.takeExpired(99)).toEqual([])
  expect(leases.takeExpired(100)).toEqual([member(2)])
  expect(leases.takeExpired(100)).toEqual([])
  expect(leases.earliestMs).toBe(160)
  expect(leases.takeExpired(160)).toEqual([member(1)])
  expect(leases.count).toBe(0)
})

test('what has run out is not renewed, whether or not anybody has looked', () => {
  const leases = new Leases()
  leases.grant(member(1), 0)
  expect(leases.renew('g', 1n, 1, 100)).toBe(false)
  expect(leases.takeExpired(100)).toEqual([member(1)])
  expect(leases.renew('g', 1n, 1, 101)).toBe(false)
})

test('an earlier life renews nothing, and a granted one replaces it', () => {
  const leases = new Leases()
  leases.grant(member(1, 1), 0)
  leases.grant(member(1, 2), 50)
  expect(leases.count).toBe(1)
  expect(leases.renew('g', 1n, 1, 60)).toBe(false)
  expect(leases.takeExpired(149)).toEqual([])
  leases.drop('g', 1n)
  leases.drop('g', 1n)
  expect(leases.count).toBe(0)
  expect(leases.takeExpired(1_000)).toEqual([])
})

test('at any time those are told whose lease is over, and no others', () => {
  const random = new SeededRandom(5)
  const leases = new Leases()
  const untilMs = new Map<number, number>()
  for (let nowMs = 0; nowMs < 20_000; nowMs += random.below(30)) {
    const id = random.below(20)
    const leaseMs = 50 + 10 * (id % 7)
    const known = untilMs.get(id)
    if (random.oneIn(3)) {
      leases.grant(member(id, 1, leaseMs), nowMs)
      untilMs.set(id, nowMs + leaseMs)
    } else if (random.oneIn(6)) {
      leases.drop('g', BigInt(id))
      untilMs.delete(id)
    } else {
      const isRunning = known !== undefined && known > nowMs
      expect(leases.renew('g', BigInt(id), 1, nowMs)).toBe(isRunning)
      if (isRunning) untilMs.set(id, nowMs + leaseMs)
    }
    const over = [...untilMs].filter(([, until]) => until <= nowMs).map(([other]) => other)
    const told = leases.takeExpired(nowMs).map(({ memberId }) => Number(memberId))
    expect(told.sort((one, other) => one - other)).toEqual(over.sort((one, other) => one - other))
    for (const other of over) untilMs.delete(other)
    expect(leases.count).toBe(untilMs.size)
  }
})
