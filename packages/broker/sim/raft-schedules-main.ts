// Runs seeds of random schedules over the Raft core alone, and names the property that one of them breaks. Planted bugs of
// the core are looked for here, where a run takes milliseconds.
import { SafetyViolation } from '../test/raft/safety.js'
import { EVENT_KINDS, type EventKind, randomFrom, Schedule, WEIGHTS as USUAL } from '../test/raft/schedule.js'
import { searchSeeds } from './seed-search.js'

const STEPS = 400

/** How much more or less often than usual something happens, in some schedules never. */
const FACTORS = [0, 0.3, 1, 1, 3]
/** What a schedule cannot do without. */
const ALWAYS: readonly EventKind[] = ['deliver', 'tick', 'propose', 'disk', 'restart', 'heal', 'fast']

function drawWeights(random: (bound: number) => number): Partial<Record<EventKind, number>> {
  const weights: Partial<Record<EventKind, number>> = {}
  for (const kind of EVENT_KINDS) {
    const factor = FACTORS[random(FACTORS.length)]!
    if (!ALWAYS.includes(kind)) weights[kind] = Math.ceil(USUAL[kind] * factor)
  }
  return weights
}

function live(seed: number): void {
  const random = randomFrom(seed)
  const voters = 1 + random(4)
  // Some groups lose what they had not flushed, and none of those changes its members meanwhile.
  const isLossy = voters > 1 && random(4) === 0
  new Schedule({ seed, voters, spares: isLossy ? 0 : random(3), isLossy, weights: drawWeights(random) }).run(STEPS)
}

/** An assertion of the product that fails is no property: it may be what a bug trips over first. */
function invariantOf(error: Error): string {
  if (error instanceof SafetyViolation) return error.property.replaceAll(' ', '-')
  if (error.message.startsWith('stale read')) return 'stale-read'
  return /heal/.test(error.message) ? 'no-progress' : 'exception'
}

searchSeeds({ name: 'raft-schedules', unit: 'schedules', seeds: 1_000, live, invariantOf }, console.log)
