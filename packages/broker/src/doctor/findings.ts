// What the doctor found: one line each, and what would help where something is not as good as it could be.

export type FindingState =
  | 'good'
  /** Works, and costs something. */
  | 'limited'
  /** A broker does not start, or not safely. */
  | 'bad'

export interface DoctorFinding {
  /** A word or two, such as `io_uring`. */
  readonly subject: string
  readonly state: FindingState
  readonly finding: string
  /** What to do; null when there is nothing. */
  readonly hint: string | null
}

const MARKS: Readonly<Record<FindingState, string>> = { good: 'ok  ', limited: 'note', bad: 'BAD ' }

/** For people: a line a finding, hints below. */
export function renderFindings(findings: readonly DoctorFinding[]): string {
  const width = Math.max(...findings.map(({ subject }) => subject.length))
  const lines = findings.flatMap(({ subject, state, finding, hint }) => {
    const line = `${MARKS[state]}  ${subject.padEnd(width)}  ${finding}`
    return hint === null ? [line] : [line, `${' '.repeat(width + 8)}→ ${hint}`]
  })
  return `${lines.join('\n')}\n`
}

/** Whether a broker can run: nothing is bad. */
export function isHealthy(findings: readonly DoctorFinding[]): boolean {
  return findings.every(({ state }) => state !== 'bad')
}
