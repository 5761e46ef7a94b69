// Programs that try one seed after the other until one breaks something, and tell which one and what.
import { parseArgs } from 'node:util'
import { wholeNumber } from './whole-number.js'

export interface SeedProgram {
  /** Of its report. */
  readonly name: string
  /** What one seed makes, as in `400 schedules`. */
  readonly unit: string
  /** Tried where the command line does not say. */
  readonly seeds: number
  /** @throws Error for what the seed breaks. */
  live(seed: number): void
  /** Which property of the product the error says is broken. */
  invariantOf(error: Error): string
}

interface Broken {
  readonly seed: number
  readonly invariant: string
  readonly message: string
}

/** Takes `--first`, `--seeds` and `--json`; the process is to end with 1 when a seed broke something. */
export function searchSeeds(program: SeedProgram, print: (line: string) => void): void {
  const { values } = parseArgs({
    options: {
      first: { type: 'string', default: '1' },
      seeds: { type: 'string', default: String(program.seeds) },
      json: { type: 'boolean', default: false },
    },
  })
  const first = wholeNumber('--first', values.first)
  const end = first + wholeNumber('--seeds', values.seeds)
  let firstFailure: Broken | null = null
  let seed = first
  for (; seed < end && firstFailure === null; seed++) firstFailure = brokenBy(program, seed)
  if (firstFailure !== null) print(`seed ${firstFailure.seed} broke ${firstFailure.invariant}: ${firstFailure.message}`)
  const seeds = seed - first
  print(`${seeds} ${program.unit}, ${firstFailure === null ? 'none' : 'one'} broke an invariant`)
  if (values.json) print(JSON.stringify({ name: program.name, seeds, firstFailure }))
  process.exitCode = firstFailure === null ? 0 : 1
}

function brokenBy({ live, invariantOf }: SeedProgram, seed: number): Broken | null {
  try {
    live(seed)
    return null
  } catch (error) {
    if (!(error instanceof Error)) throw error
    return { seed, invariant: invariantOf(error), message: error.message }
  }
}
