// Where warnings and news go: the user's logger, or else warnings of the process.
import type { ClientEnvironment } from './environment.js'

/** The part of a logger that the client uses; pino and console have this shape. */
export interface Logger {
  info(fields: object, message: string): void
  warn(fields: object, message: string): void
}

export class Warnings {
  constructor(
    readonly environment: ClientEnvironment,
    readonly logger: Logger | null,
  ) {}

  /** @param code stable, like MILLRACE_STALLED: what a reader of warnings filters by. */
  warn(code: string, message: string, fields: object = {}): void {
    if (this.logger === null) this.environment.emitWarning(message, code)
    else this.logger.warn({ code, ...fields }, message)
  }

  info(message: string, fields: object = {}): void {
    this.logger?.info(fields, message)
  }
}
