// Times a piece of work: warmed up, then the best and the median of several rounds.

export interface Measured {
  /** Of the median round. */
  readonly nsPerUnit: number
  /** Of the fastest round: what the code can do when nothing else runs. */
  readonly bestNsPerUnit: number
}

export interface BenchOptions {
  readonly tiny: boolean
}

const ROUNDS = 9

/**
 * @param work does its thing once and returns how many units (calls, operations) it did.
 * @param tiny a moment only: shows that the bench runs, not what the code can do.
 */
export function measure(work: () => number, tiny: boolean): Measured {
  const roundMs = tiny ? 2 : 150
  const rounds: number[] = []
  for (let round = 0; round <= ROUNDS; round++) {
    const startedMs = performance.now()
    let units = 0
    let elapsedMs = 0
    do {
      units += work()
      elapsedMs = performance.now() - startedMs
    } while (elapsedMs < roundMs)
    // The first round only warms up.
    if (round > 0) rounds.push((elapsedMs * 1e6) / units)
  }
  rounds.sort((a, b) => a - b)
  return { nsPerUnit: rounds[rounds.length >> 1]!, bestNsPerUnit: rounds[0]! }
}

export function rounded(value: number): number {
  return Number(value.toPrecision(3))
}
