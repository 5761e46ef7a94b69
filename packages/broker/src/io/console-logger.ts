// The logger of a broker process: one line an event, for machines (JSON) or for people (text).
import type { LogFields, Logger } from '../environment.js'

export type LogLevel = 'debug' | 'info' | 'warn' | 'error' | 'silent'
export type LogFormat = 'json' | 'text'

export interface ConsoleLoggerOptions {
  readonly level: LogLevel
  readonly format: LogFormat
  /** Takes one line including its end. Standard error unless given. */
  readonly write?: (line: string) => void
}

const RANKS: Readonly<Record<LogLevel, number>> = { debug: 0, info: 1, warn: 2, error: 3, silent: 4 }

export function createConsoleLogger(options: ConsoleLoggerOptions): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line))
  const format = options.format === 'json' ? jsonLine : textLine
  const at = (level: LogLevel) =>
    RANKS[level] < RANKS[options.level]
      ? () => {}
      : (fields: LogFields, message: string) => write(format(new Date().toISOString(), level, fields, message))
  return { debug: at('debug'), info: at('info'), warn: at('warn'), error: at('error') }
}

function jsonLine(time: string, level: string, fields: LogFields, message: string): string {
  const plain = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, plainValue(value)]))
  return `${JSON.stringify({ time, level, message, ...plain })}\n`
}

function textLine(time: string, level: string, fields: LogFields, message: string): string {
  const words = Object.entries(fields).map(([name, value]) => ` ${name}=${textValue(value)}`)
  return `${time} ${level.padEnd(5)} ${message}${words.join('')}\n`
}

function textValue(value: unknown): string {
  if (value instanceof Error) return JSON.stringify(describeError(value))
  const plain = plainValue(value)
  return typeof plain === 'string' && /^[\w.:/@+-]+$/.test(plain) ? plain : JSON.stringify(plain)
}

/** What JSON cannot carry becomes text: a logger never throws because of what it is asked to log. */
function plainValue(value: unknown): unknown {
  if (value instanceof Error) return { message: describeError(value), stack: value.stack }
  if (typeof value === 'bigint' || typeof value === 'symbol' || typeof value === 'function') return String(value)
  if (value === undefined) return null
  if (typeof value !== 'object' || value === null) return value
  try {
    return JSON.parse(JSON.stringify(value, (_, inner: unknown) => (typeof inner === 'bigint' ? String(inner) : inner)))
  } catch (cause) {
    return `not loggable: ${String(cause)}`
  }
}

/** An error and its causes on one line. */
function describeError(error: Error): string {
  const cause =
    error.cause === undefined
      ? ''
      : `: ${error.cause instanceof Error ? describeError(error.cause) : String(error.cause)}`
  return `${error.name}: ${error.message}${cause}`
}
