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
  { kind: 'vote', log: 0, wait: true },
  { kind: 'install', log: 0 },
]

/** All sequences of at most three steps. */
export const SHORT_TRACES: readonly (readonly Step[])[] = [1, 2, 3].flatMap((length) => sequences(length))

function sequences(length: number): Step[][] {
  if (length === 0) return [[]]
  return sequences(length - 1).flatMap((before) => SHORT_STEPS.map((step) => [...before, step]))
}

export interface DrawnTrace {
  readonly logs: number
  readonly steps: readonly Step[]
}

export function drawTrace(random: SeededRandom): DrawnTrace {
  const draw = random.fraction()
  if (draw < 0.15) return { logs: 1, steps: recyclingSteps(random) }
  if (draw < 0.3) return { logs: 3, steps: votingSteps(random) }
  if (draw < 0.5) return { logs: random.pick([1, 2]), steps: patientSteps(random) }
  return { logs: random.pick([1, 1, 2, 3]), steps: drawSteps(random) }
}

/** A log through several slots whose beginning is given up again and again. */
function recyclingSteps(random: SeededRandom): Step[] {
  const steps: Step[] = []
  const count = random.integer(6, 20)
  for (let i = 0; i < count; i++) {
    steps.push({ kind: 'append', log: 0, bytes: random.integer(6000, 27_000), mode: random.pick(['flush', 'write']) })
    if (random.chance(0.5)) steps.push({ kind: 'settle', log: 0 })
    if (random.chance(0.3)) {
      const bytes = random.pick([1, 1, 64 * 1024, null])
      steps.push({ kind: 'expire', log: 0, bytes }, { kind: 'flush', log: 0 }, { kind: 'commit', log: 0, share: 1 })
      for (let settle = random.integer(0, 6); settle > 0; settle--) steps.push({ kind: 'settle', log: 0 })
    } else if (random.chance(0.1)) steps.push({ kind: 'truncate', log: 0, share: random.fraction() })
    else if (random.chance(0.15)) {
      steps.push({ kind: 'install', log: 0 })
      if (random.chance(0.5))
        steps.push({ kind: 'append', log: 0, bytes: 300, mode: 'flush' }, { kind: 'flush', log: 0 })
    }
  }
  return steps
}

/** Whoever appends waits until it is flushed: the disk holds proof that everything but the last group was. */
function patientSteps(random: SeededRandom): Step[] {
  const steps: Step[] = []
  const count = random.integer(2, 12)
  for (let i = 0; i < count; i++) {
    const log = random.integer(0, 1)
    const bytes = Math.floor(random.logBetween(1, 4000))
    steps.push({ kind: 'append', log, bytes, mode: 'flush' }, { kind: 'flush', log })
    if (random.chance(0.1)) steps.push({ kind: 'commit', log, share: 1 })
    if (random.chance(0.1)) steps.push({ kind: 'truncate', log, share: random.fraction() })
    if (random.chance(0.05)) steps.push({ kind: 'drop', log })
  }
  return steps
}

/** Elections, several at once, while some logs are written to. */
function votingSteps(random: SeededRandom): Step[] {
  const steps: Step[] = []
  const count = random.integer(3, 20)
  for (let i = 0; i < count; i++) {
    const log = random.integer(0, 2)
    steps.push({ kind: 'vote', log, wait: random.chance(0.4) })
    if (random.chance(0.3)) steps.push({ kind: 'append', log, bytes: random.integer(1, 3000), mode: 'flush' })
    if (random.chance(0.3)) steps.push({ kind: 'settle', log })
    if (random.chance(0.03)) steps.push({ kind: 'drop', log })
  }
  if (random.chance(0.1)) steps.push({ kind: 'failFlush' }, { kind: 'vote', log: 0, wait: true })
  if (random.chance(0.2)) steps.push({ kind: 'close' })
  return steps
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
  switch (random.integer(0, 5)) {
    case 0:
      return { kind: 'flush', log }
    case 1:
      return { kind: 'truncate', log, share: random.pick([0, 0.3, 0.7, 1]) }
    case 2:
      return { kind: 'expire', log, bytes: random.pick([null, 1, 64 * 1024]) }
    case 4:
      return { kind: 'install', log }
    case 3:
      return { kind: 'vote', log, wait: random.chance(0.5) }
    default:
      return { kind: 'commit', log, share: random.pick([0.5, 1]) }
  }
}
