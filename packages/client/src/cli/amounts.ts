// Times and sizes as people write them: 7d, 10g.
import type { CommandLine } from './command-line.js'
import { UsageError } from './exit-codes.js'

const TIMES = { ms: 1, s: 1000, m: 60_000, h: 3_600_000, d: 86_400_000 } as const
const SIZES = { b: 1, k: 2 ** 10, m: 2 ** 20, g: 2 ** 30, t: 2 ** 40 } as const

/** Milliseconds, or null when the option was not given. @throws UsageError. */
export function readDuration(line: CommandLine, option: string): number | null {
  return readAmount(line, option, TIMES, 'a time like 30s, 15m, 12h or 7d')
}

/** Bytes, or null when the option was not given. @throws UsageError. */
export function readBytes(line: CommandLine, option: string): number | null {
  return readAmount(line, option, SIZES, 'a size like 512m or 10g')
}

function readAmount(
  line: CommandLine,
  option: string,
  units: Readonly<Record<string, number>>,
  wanted: string,
): number | null {
  const text = line.values[option]
  if (text === undefined) return null
  const [, digits, unit] = /^(\d+)([a-z]+)$/i.exec(text) ?? []
  const value = Number(digits) * (units[unit?.toLowerCase() ?? ''] ?? Number.NaN)
  if (!Number.isSafeInteger(value) || value < 1) {
    throw new UsageError(`--${option} needs ${wanted}, not ${text}`, line.name ?? undefined)
  }
  return value
}

export const timeText = (ms: number): string => amountText(ms, TIMES)
export const sizeText = (bytes: number): string => amountText(bytes, SIZES)

/** How long ago or how much, for people: in the largest unit that is not a fraction, rounded down. */
export const roughTime = (ms: number): string => roughText(ms, TIMES)
export const roughSize = (bytes: number): string => roughText(bytes, SIZES)

function roughText(value: number, units: Readonly<Record<string, number>>): string {
  const [unit = '', size = 1] =
    Object.entries(units).findLast(([, one]) => value >= one) ?? Object.entries(units)[0] ?? []
  return `${Math.floor(value / size)}${unit}`
}

/** In the largest unit that needs no fraction. */
function amountText(value: number, units: Readonly<Record<string, number>>): string {
  let text = String(value)
  for (const [unit, size] of Object.entries(units)) if (value % size === 0) text = `${value / size}${unit}`
  return text
}
