// How a command ends: the exit codes, the errors that carry one, and which code an error of the client means.

export const EXIT = {
  ok: 0,
  failure: 1,
  usage: 2,
  notFound: 3,
  exists: 4,
  unreachable: 6,
  partialFailure: 7,
  unhealthy: 8,
  interrupted: 130,
} as const
export type ExitCode = (typeof EXIT)[keyof typeof EXIT]

/** Ends the command with `exitCode`. The message says what happened and what to do next. */
export class CommandError extends Error {
  override readonly name = 'CommandError'
  constructor(
    readonly exitCode: ExitCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}

/** The call itself is wrong; `command` names the help that explains it. */
export class UsageError extends CommandError {
  constructor(
    message: string,
    readonly command?: string,
  ) {
    super(EXIT.usage, message)
  }
}
