// What a merge of claims has to be, whoever implements it: the same whatever order and however often things are heard.
import fc from 'fast-check'
import type { mergeClaims } from '#src/gossip/claims.js'
import type { Claim, MemberState } from '#src/gossip/gossip-types.js'
import { recordOf } from './gossip-world.js'

const MAX_ACCUSERS = 4
const STATES: readonly MemberState[] = ['alive', 'suspect', 'dead', 'left']

/** Of one node: few versions and accusers, so that many of them are equal. */
const claims: fc.Arbitrary<Claim> = fc
  .record({
    state: fc.constantFrom(...STATES),
    bootId: fc.integer({ min: 1, max: 3 }),
    incarnation: fc.integer({ min: 0, max: 3 }),
    accusers: fc.uniqueArray(fc.integer({ min: 2, max: 9 }), { minLength: 1, maxLength: MAX_ACCUSERS }),
    profileBack: fc.integer({ min: 0, max: 3 }),
    hasProfile: fc.boolean(),
    shards: fc.integer({ min: 1, max: 2 }),
  })
  .map(({ state, bootId, incarnation, accusers, profileBack, hasProfile, shards }) => {
    const isAlive = state === 'alive'
    const profileIncarnation = isAlive ? incarnation : Math.max(0, incarnation - profileBack)
    const record = recordOf(1, { shards })
    const profile = isAlive || hasProfile ? { bootId, incarnation: profileIncarnation, record } : null
    const sorted = [...accusers].sort((left, right) => left - right)
    return { nodeId: 1, bootId, incarnation, state, accusers: state === 'suspect' ? sorted : [], profile }
  })

/** @throws with the smallest counterexample. */
export function checkMerge(merge: typeof mergeClaims): void {
  const both = (left: Claim, right: Claim): Claim => merge(left, right, MAX_ACCUSERS)
  const same = (left: Claim, right: Claim): boolean => JSON.stringify(left) === JSON.stringify(right)
  const runs = { numRuns: 3_000, seed: 5 }
  fc.assert(
    fc.property(claims, claims, (a, b) => same(both(a, b), both(b, a))),
    runs,
  )
  fc.assert(
    fc.property(claims, claims, claims, (a, b, c) => same(both(both(a, b), c), both(a, both(b, c)))),
    runs,
  )
  fc.assert(
    fc.property(claims, claims, (a, b) => both(a, a) === a && same(both(both(a, b), b), both(a, b))),
    runs,
  )
}
