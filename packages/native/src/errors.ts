// Errors of the native package: codes thrown by the addon, and names for the kernel's negative answers.
import { constants } from 'node:os'

/**
 * `ERR_MILLRACE_ARGUMENT` (a TypeError), `ERR_MILLRACE_RANGE` (a RangeError), `ERR_MILLRACE_CLOSED`: a handle that is
 * closed or never was, `ERR_MILLRACE_SYSTEM`: the kernel refused (`errno` and `syscall` say how and where).
 */
export type NativeErrorCode =
  | 'ERR_MILLRACE_ARGUMENT'
  | 'ERR_MILLRACE_RANGE'
  | 'ERR_MILLRACE_CLOSED'
  | 'ERR_MILLRACE_SYSTEM'

/** Some numbers have two names, such as EAGAIN and EWOULDBLOCK: the first in the alphabet is the usual one. */
const NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno)
    .sort(([a], [b]) => (a < b ? 1 : -1))
    .map(([name, value]) => [value, name]),
)

/** The name of an errno, such as `ENOSPC`; a negative answer of the kernel is taken as well. */
export function errnoName(errno: number): string {
  return NAMES.get(Math.abs(errno)) ?? `errno ${Math.abs(errno)}`
}

/** A call or operation that the kernel answered with an error. `code` is the name of the errno, as in `node:fs`. */
export class SystemError extends Error {
  override readonly name = 'SystemError'
  readonly code: string
  readonly errno: number

  /** @param errno positive or negative. */
  constructor(
    readonly syscall: string,
    errno: number,
  ) {
    super(`${errnoName(errno)}: ${syscall}`)
    this.errno = Math.abs(errno)
    this.code = errnoName(errno)
  }
}

/** The answer of a call, unless it is an error. @throws SystemError */
export function checkAnswer(syscall: string, answer: number): number {
  if (answer < 0) throw new SystemError(syscall, answer)
  return answer
}
