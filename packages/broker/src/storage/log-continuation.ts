// How a log is when it begins, or goes on in a slot of its own: everything about it but where that slot stands.
import type { LogBeginning } from './group-assembly.js'
import { type LogStart, LogStarts } from './log-start.js'
import type { LogEnd } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import { TermTable } from './term-table.js'
import { Truncations } from './truncations.js'

export type LogContinuation = Omit<LogBeginning, 'position' | 'previous'>

/** An empty log that begins with `start`. */
export function emptyFrom(start: LogStart): LogContinuation {
  const filled = { index: start.index - 1, nextOffset: start.offset, term: start.previousTerm }
  return { filled, terms: new TermTable(), starts: new LogStarts(start), truncations: new Truncations() }
}

/** The log up to a batch. @param position where it goes on. */
export function cutOff({ terms, starts, truncations }: LogWriter, end: LogEnd, position: number): LogContinuation {
  const { index, nextOffset } = end
  truncations.note({ position, lastIndex: index, nextOffset })
  terms.truncateTo(index)
  starts.truncateTo(index)
  return { filled: end, terms, starts, truncations }
}
