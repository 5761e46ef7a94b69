// Sizes, counts, times and tables for people.

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB'] as const

/** Three digits at most, and the unit: `0 B`, `1.5 KiB`, `64 MiB`. */
export function sizeText(bytes: number): string {
  let unit = 0
  let value = bytes
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  const digits = unit === 0 || value >= 100 || Number.isInteger(value) ? 0 : 1
  return `${value.toFixed(digits)} ${UNITS[unit]}`
}

export const countText = (count: number): string => count.toLocaleString('en-US')

/** `1 log`, `2 logs`. */
export function counted(count: number, singular: string, plural = `${singular}s`): string {
  return `${countText(count)} ${count === 1 ? singular : plural}`
}

/** Milliseconds since 1970 in UTC; a dash for 0, which stands for none. */
export function timeText(ms: number): string {
  return ms === 0 || ms > 8.64e15 ? '-' : new Date(ms).toISOString()
}

export interface TableColumn {
  readonly title: string
  /** Numbers stand right, everything else left. */
  readonly right?: true
}

/** Whole lines, with a header; nothing without rows. */
export function tableText(columns: readonly TableColumn[], rows: readonly (readonly string[])[]): string {
  if (rows.length === 0) return ''
  const lines = [columns.map(({ title }) => title.toUpperCase()), ...rows]
  const widths = columns.map((_, at) => lines.reduce((width, line) => Math.max(width, line[at]?.length ?? 0), 0))
  const cell = (text: string, at: number): string =>
    columns[at]?.right === true ? text.padStart(widths[at] ?? 0) : text.padEnd(widths[at] ?? 0)
  return lines.map((line) => `${line.map(cell).join('  ').trimEnd()}\n`).join('')
}
