// Times a piece of work in many short samples, so that what else the machine does falls on few of them.

export interface Measured {
  readonly nsPerUnit: number
  /** Of the fastest tenth: what the code takes when nothing else runs. */
  readonly bestNsPerUnit: number
}

export interface BenchOptions {
  readonly tiny: boolean
}

const WARM_UP_SAMPLES = 50
const FEWEST_SAMPLES = 20

/**
 * @param work does its thing once, for some ten microseconds, and returns how many units (calls, operations) it did.
 * @param tiny a moment only: shows that the bench runs, not what the code can do.
 */
export function measure(work: () => number, tiny: boolean): Measured {
  for (let i = 0; i < WARM_UP_SAMPLES; i++) work()
  const samples: number[] = []
  const endMs = performance.now() + (tiny ? 2 : 500)
  while (samples.length < FEWEST_SAMPLES || performance.now() < endMs) {
    const startedNs = process.hrtime.bigint()
    const units = work()
    samples.push(Number(process.hrtime.bigint() - startedNs) / units)
  }
  samples.sort((a, b) => a - b)
  return { nsPerUnit: samples[samples.length >> 1]!, bestNsPerUnit: samples[Math.floor(samples.length / 10)]! }
}

export function rounded(value: number): number {
  return Number(value.toPrecision(3))
}
