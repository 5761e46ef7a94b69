// Results on standard output: JSON for programs, tables and words for people.
import { usesColor } from './output.js'
import type { Session } from './session.js'
import { type Column, formatTable } from './table.js'

export function printJson({ output }: Session, value: unknown): void {
  void output.writeText(`${JSON.stringify(value)}\n`)
}

export function printTable(
  { output }: Session,
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
): void {
  const style = { isTerminal: output.isTerminal, color: usesColor(output.stream, process.env) }
  void output.writeText(formatTable(columns, rows, style))
}

export const countOf = (count: number, noun: string): string => `${count} ${noun}${count === 1 ? '' : 's'}`
