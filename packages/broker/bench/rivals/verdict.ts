// What the rounds come to: medians for each client, and how Millrace stands to the best of the others for each core of the client.
import type { Score, TaskName } from './contest.js'

/** Millrace is to do so many times what the best of the others does, for each core of the client. */
const FLOORS: Readonly<Record<TaskName, number>> = { single: 2, callers: 2, batch: 5, consume: 5, each: 5 }
const MILLION = 1e6
const GB = 1e9

export interface Row {
  readonly recordBytes: number
  readonly task: TaskName
  readonly acknowledged: string
  readonly client: string
  readonly recordsPerSecond: number
  readonly clientCpuSecondsPerMillion: number
  readonly clientCpuSecondsPerGb: number
  readonly recordsPerClientCpuSecond: number
  /** Lowest and highest of the rounds, of the same. */
  readonly range: readonly [number, number]
  /** Against the best of the others; on Millrace's own rows. */
  readonly timesTheBest?: number
  /** The same by the clock, against the fastest of the others, which may be another one. */
  readonly timesByClock?: number
  readonly best?: string
  readonly floor?: number
  readonly met?: boolean
}

export function verdict(scores: readonly Score[]): readonly Row[] {
  const rows = scores.map(rowOf)
  return rows.map((row, at) => {
    if (row.client !== 'millrace') return row
    const others = rows.filter((other) => other.client !== 'millrace' && isSame(scores, at, rows.indexOf(other)))
    if (others.length === 0) return row
    const best = others.reduce((one, other) =>
      other.recordsPerClientCpuSecond > one.recordsPerClientCpuSecond ? other : one,
    )
    const timesTheBest = row.recordsPerClientCpuSecond / best.recordsPerClientCpuSecond
    const fastest = Math.max(...others.map(({ recordsPerSecond }) => recordsPerSecond))
    const floor = FLOORS[row.task]
    return {
      ...row,
      timesTheBest: Number(timesTheBest.toFixed(2)),
      timesByClock: Number((row.recordsPerSecond / fastest).toFixed(2)),
      best: best.client,
      floor,
      met: timesTheBest >= floor,
    }
  })
}

/** The one in the middle, or the mean of the two there. */
function median(figures: readonly number[]): number {
  const sorted = [...figures].sort((a, b) => a - b)
  const last = sorted.length - 1
  return (sorted[Math.floor(last / 2)]! + sorted[Math.ceil(last / 2)]!) / 2
}

function isSame(scores: readonly Score[], one: number, other: number): boolean {
  const [left, right] = [scores[one]!, scores[other]!]
  return left.task === right.task && left.recordBytes === right.recordBytes
}

function rowOf({ client, task, recordBytes, rounds }: Score): Row {
  const perCore = rounds.map(({ records, cpuSeconds }) => records / cpuSeconds)
  const middle = median(perCore)
  return {
    recordBytes,
    task: task.name,
    acknowledged: task.name === 'consume' || task.name === 'each' ? '' : task.durability,
    client,
    recordsPerSecond: Math.round(median(rounds.map(({ records, seconds }) => records / seconds))),
    clientCpuSecondsPerMillion: Number((MILLION / middle).toPrecision(3)),
    clientCpuSecondsPerGb: Number((GB / recordBytes / middle).toPrecision(3)),
    recordsPerClientCpuSecond: Math.round(middle),
    range: [Math.round(Math.min(...perCore)), Math.round(Math.max(...perCore))],
  }
}
