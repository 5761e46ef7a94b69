// Options that all benches of the broker understand: `--environment ring|portable|auto` and `--seconds N`. Those that produce also
// take `--reserve SIZE`: disk space that the broker has written through before the load begins, as after days of work; and
// `--retention BYTES` of each partition, with which slots are recycled, and `--calls N` in flight.
import { parseArgs } from 'node:util'
import type { Preference } from './broker-under-test.js'

export interface RunOptions {
  readonly tiny: boolean
  readonly json: boolean
  readonly argv: readonly string[]
}

export interface BenchOptions {
  readonly prefer: Preference
  readonly seconds: number
  readonly warmUpSeconds: number
  /** What the broker is told to keep ready and has filled before the load begins, such as `2g`; null for nothing. */
  readonly reserve: string | null
  /** Calls in flight, instead of those of the workload; null for those. */
  readonly callsInFlight: number | null
  /** Bytes kept of each partition; null for all. With it a long run reaches the state in which slots only go round. */
  readonly retentionBytes: number | null
}

export function benchOptions(options: RunOptions, defaultSeconds: number): BenchOptions {
  const { values } = parseArgs({
    args: [...options.argv],
    options: {
      environment: { type: 'string', default: 'auto' },
      seconds: { type: 'string' },
      reserve: { type: 'string' },
      retention: { type: 'string' },
      calls: { type: 'string' },
    },
    strict: false,
  })
  const seconds = options.tiny ? 0.3 : Number(values.seconds ?? defaultSeconds)
  const prefer = values.environment
  if (prefer !== 'auto' && prefer !== 'ring' && prefer !== 'portable')
    throw new Error('--environment ring|portable|auto')
  if (!(seconds > 0)) throw new Error('--seconds takes a number above zero')
  const reserve = typeof values.reserve === 'string' ? values.reserve : null
  const retentionBytes = count('--retention', values.retention)
  const callsInFlight = count('--calls', values.calls)
  return { prefer, seconds, warmUpSeconds: seconds / 4, reserve, retentionBytes, callsInFlight }
}

/** A whole number above zero, or null when the option is not given. */
function count(option: string, value: string | boolean | undefined): number | null {
  if (value === undefined) return null
  const number = Number(value)
  if (!Number.isSafeInteger(number) || number <= 0) throw new Error(`${option} takes a whole number above zero`)
  return number
}
