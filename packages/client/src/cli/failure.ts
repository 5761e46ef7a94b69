// What a failed command says and with which code it ends.
import { MillraceError, type MillraceErrorCode, reasonOf } from '../errors.js'
import { CommandError, EXIT, type ExitCode, UsageError } from './exit-codes.js'

const EXIT_BY_CODE: Partial<Readonly<Record<MillraceErrorCode, ExitCode>>> = {
  ERR_MILLRACE_INVALID_ARGUMENT: EXIT.usage,
  ERR_MILLRACE_INVALID_CONFIG: EXIT.usage,
  ERR_MILLRACE_INVALID_TOPIC_NAME: EXIT.usage,
  ERR_MILLRACE_UNKNOWN_TOPIC: EXIT.notFound,
  ERR_MILLRACE_UNKNOWN_PARTITION: EXIT.notFound,
  ERR_MILLRACE_TOPIC_DELETED: EXIT.notFound,
  ERR_MILLRACE_UNKNOWN_GROUP: EXIT.notFound,
  ERR_MILLRACE_INVALID_REQUEST: EXIT.usage,
  ERR_MILLRACE_TOPIC_EXISTS: EXIT.exists,
  ERR_MILLRACE_CONNECTION: EXIT.unreachable,
  ERR_MILLRACE_TIMEOUT: EXIT.unreachable,
  ERR_MILLRACE_DELIVERY_TIMEOUT: EXIT.unreachable,
}

/** The exit code for anything that was thrown. */
export function exitCodeOf(error: unknown): ExitCode {
  if (error instanceof CommandError) return error.exitCode
  return MillraceError.is(error) ? (EXIT_BY_CODE[error.code] ?? EXIT.failure) : EXIT.failure
}

/** One line, or with `json` one JSON object, for standard error. Errors nobody foresaw keep their stack. */
export function describeFailure(error: unknown, json: boolean): string {
  const message = reasonOf(error)
  if (json) {
    const code = MillraceError.is(error) ? error.code : null
    return JSON.stringify({ error: { code, message, exitCode: exitCodeOf(error) } })
  }
  if (error instanceof UsageError) {
    const help = error.command === undefined ? 'millrace --help' : `millrace ${error.command} --help`
    return `millrace: ${message}\nsee '${help}'`
  }
  const isForeseen = error instanceof CommandError || MillraceError.is(error) || isSystemError(error)
  return `millrace: ${isForeseen || !(error instanceof Error) ? message : (error.stack ?? message)}`
}

/** Errors of the operating system carry an errno; their message says enough. */
function isSystemError(error: unknown): boolean {
  return error instanceof Error && 'errno' in error
}
