// Tables without borders for people, and the same rows as tab-separated lines for programs.

export interface Column {
  readonly title: string
  /** Numbers stand right, everything else left. */
  readonly align?: 'right'
}

export interface TableStyle {
  /** A terminal gets a header and columns that line up; a pipe gets tab-separated lines without a header. */
  readonly isTerminal: boolean
  readonly color: boolean
}

/** @param rows one text per column. @returns whole lines. */
export function formatTable(
  columns: readonly Column[],
  rows: readonly (readonly string[])[],
  style: TableStyle,
): string {
  if (!style.isTerminal) return rows.map((row) => `${row.join('\t')}\n`).join('')
  const widths = columns.map((column, at) => Math.max(column.title.length, ...rows.map((row) => row[at]?.length ?? 0)))
  const line = (cells: readonly string[]): string =>
    columns
      .map(({ align }, at) => {
        const cell = cells[at] ?? ''
        const width = widths[at] ?? 0
        return align === 'right' ? cell.padStart(width) : cell.padEnd(width)
      })
      .join('  ')
      .trimEnd()
  const header = line(columns.map((column) => column.title.toUpperCase()))
  const bold = style.color ? `\u001b[1m${header}\u001b[0m` : header
  return [bold, ...rows.map(line)].map((text) => `${text}\n`).join('')
}
