// The sequences of steps that are crashed: every short one, and random ones.
import type { SeededRandom } from '../random.js'
import type { Step } from './workload.js'

const SHORT_STEPS: readonly Step[] = [
  { kind: 'append', log: 0, bytes: 300, mode: 'flush' },
  { kind: 'append', log: 0, bytes: 9000, mode: 'write' },
  { kind: 'append', log: 0, bytes: 27_000, mode: 'flush' },
  { kind: 'append', log: 1, bytes: 300, mode: 'write' },
  { kind: 'flush', log: 0 },
  { kind: 'drop', log: 0 },
  { kind: 'settle', log: 0 },
  { kind: 'truncate', log: 0, share: 0.5 },
  { kind: 'expire', log: 0, bytes: null },
  { kind: 'commit', log: 0, share: 1 },
]

/** All sequences of at most three steps. */
export const SHORT_TRACES: readonly (readonly Step[])[] = [1, 2, 3].flatMap((length) => sequences(length))

function sequences(length: number): Step[][] {
  if (length === 0) return [[]]
  return sequences(length - 1).flatMap((before) => SHORT_STEPS.map((step) => [...before, step]))
}

export function drawSteps(random: SeededRandom): Step[] {
  const steps: Step[] = []
  // A long log shows whether recovery reads more than its tail.
  const isLong = random.chance(0.02)
  const count = isLong ? 200 : Math.round(random.logBetween(4, 60))
  const largest = isLong || random.chance(0.2) ? 27_000 : 4000
  const flushShare = random.fraction()
  const rareShare = random.pick([0.04, 0.1, 0.25])
  for (let i = 0; i < count; i++) {
    const log = random.integer(0, 2)
    const draw = random.fraction()
    const bytes = Math.floor(random.logBetween(1, largest))
    if (draw < 0.6) steps.push({ kind: 'append', log, bytes, mode: random.chance(flushShare) ? 'flush' : 'write' })
    else if (draw < 0.99 - rareShare) steps.push({ kind: 'settle', log })
    else if (draw < 0.99) steps.push(rareStep(random, log))
    else steps.push({ kind: 'drop', log })
  }
  if (random.chance(0.1)) steps.splice(random.integer(0, steps.length), 0, { kind: 'failFlush' })
  if (random.chance(0.3)) steps.push({ kind: 'close' })
  return steps
}

function rareStep(random: SeededRandom, log: number): Step {
  switch (random.integer(0, 3)) {
    case 0:
      return { kind: 'flush', log }
    case 1:
      return { kind: 'truncate', log, share: random.pick([0, 0.3, 0.7, 1]) }
    case 2:
      return { kind: 'expire', log, bytes: random.pick([null, 1, 64 * 1024]) }
    default:
      return { kind: 'commit', log, share: random.pick([0.5, 1]) }
  }
}
