// What a running command holds: its words, its outputs, the moment of interruption, and one client that is always closed.
import { connect } from '../connect.js'
import type { Mill } from '../mill.js'
import type { Logger } from '../warnings.js'
import type { CommandLine } from './command-line.js'
import type { DataOutput, Messages } from './output.js'

export interface Session {
  readonly line: CommandLine
  readonly output: DataOutput
  readonly messages: Messages
  /** Aborted by Ctrl-C. */
  readonly interrupted: AbortSignal
}

/** After an error or Ctrl-C nobody wants to wait long for what is under way. */
const CLOSE_TIMEOUT_MS = 5_000
/** Somebody is waiting at the prompt. */
const CONNECT_TIMEOUT_MS = 3_000

/** Runs `work` with a client and closes it whatever happens. */
export async function withClient<T>(session: Session, work: (mill: Mill) => Promise<T>): Promise<T> {
  const { line, messages } = session
  const mill = connect({
    bootstrap: line.bootstrap,
    connectTimeoutMs: CONNECT_TIMEOUT_MS,
    logger: warningsTo(messages),
  })
  let result: T
  try {
    result = await work(mill)
  } catch (error) {
    // What went wrong first says more than what then could not be finished.
    await mill.close({ timeoutMs: CLOSE_TIMEOUT_MS }).catch(() => undefined)
    throw error
  }
  await mill.close({ timeoutMs: CLOSE_TIMEOUT_MS })
  return result
}

/** A reader of the pipe that takes its time is no stall worth a warning, and what cannot be reached is told as an error. */
const UNTOLD_WARNINGS: readonly unknown[] = ['MILLRACE_STALLED', 'MILLRACE_UNREACHABLE']

function warningsTo(messages: Messages): Logger {
  return {
    info() {},
    warn(fields, message) {
      if (!('code' in fields && UNTOLD_WARNINGS.includes(fields.code))) messages.line(`warning: ${message}`)
    },
  }
}
