// What samples of a process's memory say: where it began, where it went, and whether it is on its way up.

export interface MemorySample {
  readonly atMs: number
  readonly mb: number
}

export interface MemoryTrend {
  readonly startMb: number
  readonly warmMb: number
  readonly endMb: number
  readonly highestMb: number
  /** Of the straight line through everything after the warm-up. */
  readonly mbPerHour: number
  /** Medians of the quarters after the warm-up. */
  readonly quartersMb: readonly number[]
  /** Why this is not flat; null when it is. */
  readonly failure: string | null
}

const QUARTERS = 4
/** Quarters that each lie above the one before are a leak when they rise by this part of the limit in all. */
const STEADY_PART = 0.02

/**
 * @param limitMb what the process may take at most.
 * @param judgesSlope whether the run is long enough to tell a leak from memory that fills up.
 */
export function trendOf(
  samples: readonly MemorySample[],
  warmUpMs: number,
  limitMb: number,
  judgesSlope: boolean,
): MemoryTrend {
  const first = samples[0]
  const last = samples.at(-1)
  if (first === undefined || last === undefined) throw new Error('no sample of memory was taken')
  const found = samples.filter(({ atMs }) => atMs - first.atMs >= warmUpMs)
  const warm = found.length >= QUARTERS ? found : samples
  const each = Math.max(1, Math.floor(warm.length / QUARTERS))
  const quartersMb = Array.from({ length: QUARTERS }, (_, i) => medianOf(warm.slice(i * each, (i + 1) * each)))
  const highestMb = Math.max(...samples.map(({ mb }) => mb))
  const rise = quartersMb.at(-1)! - quartersMb[0]!
  const steady = quartersMb.every((mb, i) => i === 0 || mb > quartersMb[i - 1]!) && rise > limitMb * STEADY_PART
  let failure: string | null = null
  if (highestMb > limitMb) failure = `${highestMb.toFixed(0)} MB are more than the ${limitMb.toFixed(0)} MB allowed`
  else if (steady && judgesSlope) failure = `memory rises steadily, by ${rise.toFixed(1)} MB after the warm-up`
  const mbPerHour = slopeOf(warm) * 3_600_000
  return { startMb: first.mb, warmMb: warm[0]!.mb, endMb: last.mb, highestMb, mbPerHour, quartersMb, failure }
}

function medianOf(samples: readonly MemorySample[]): number {
  const sorted = samples.map(({ mb }) => mb).sort((a, b) => a - b)
  return sorted[Math.floor(sorted.length / 2)] ?? 0
}

/** Megabytes per millisecond, by least squares. */
function slopeOf(samples: readonly MemorySample[]): number {
  const meanMs = samples.reduce((sum, { atMs }) => sum + atMs, 0) / samples.length
  const meanMb = samples.reduce((sum, { mb }) => sum + mb, 0) / samples.length
  let above = 0
  let below = 0
  for (const { atMs, mb } of samples) {
    above += (atMs - meanMs) * (mb - meanMb)
    below += (atMs - meanMs) ** 2
  }
  return below === 0 ? 0 : above / below
}
