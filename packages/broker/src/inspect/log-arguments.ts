// The command line of `millrace-broker log`: which directory, which log, and how much of it.
import { nearestOf } from '../nearest.js'
import { InspectError } from './reports.js'

export const LOG_HELP = `millrace-broker log: look into the data directory of a stopped broker, changing nothing

  millrace-broker log inspect <dir>   slots, logs, segments and what was cut off
  millrace-broker log verify <dir>    read everything and check every checksum: exit code 1 when something is damaged

  --log <topic>/<partition>  only this log; a topic by name or id, 0 is the metadata
  --groups                   inspect: the groups of the logs
  --batches                  inspect: the batches of the logs
  --offset <n>               begin these at the one that holds this offset
  --limit <n>                at most so many rows of each log [1000]
  --json                     one JSON object on the last line
`

export interface LogArguments {
  readonly command: 'inspect' | 'verify'
  readonly directory: string
  readonly log: { readonly topic: string; readonly partition: number } | null
  readonly groups: boolean
  readonly batches: boolean
  readonly offset: number
  readonly limit: number
  readonly json: boolean
}

const SWITCHES = ['--groups', '--batches', '--json']
const VALUES = ['--log', '--offset', '--limit']
const MAX_ROWS = 1_000_000

/** Null when help was asked for. @throws InspectError */
export function readLogArguments(args: readonly string[]): LogArguments | null {
  const [command, ...rest] = args
  if (command === undefined || command === 'help' || args.includes('--help') || args.includes('-h')) return null
  if (command !== 'inspect' && command !== 'verify') {
    throw new InspectError(
      `there is no command log ${command}; did you mean ${nearestOf(command, ['inspect', 'verify'])}?`,
    )
  }
  const switches = new Set<string>()
  const values = new Map<string, string>()
  const places: string[] = []
  for (let at = 0; at < rest.length; at++) {
    const [name = '', inline] = rest[at]!.startsWith('--') ? rest[at]!.split(/=(.*)/s) : [rest[at]!]
    if (SWITCHES.includes(name)) switches.add(name)
    else if (VALUES.includes(name)) {
      const value = inline ?? rest[++at]
      if (value === undefined) throw new InspectError(`${name} needs a value`)
      values.set(name, value)
    } else if (name.startsWith('-')) {
      throw new InspectError(`${name} is unknown; did you mean ${nearestOf(name, [...SWITCHES, ...VALUES, '--help'])}?`)
    } else places.push(name)
  }
  const [directory, tooMuch] = places
  if (directory === undefined) throw new InspectError(`log ${command} needs the data directory of a broker`)
  if (tooMuch !== undefined) throw new InspectError(`${tooMuch} is too much: log ${command} takes one directory`)
  const log = values.get('--log')
  return {
    command,
    directory,
    log: log === undefined ? null : logOf(log),
    groups: switches.has('--groups'),
    batches: switches.has('--batches'),
    offset: numberOf(values, '--offset', 0, 0, Number.MAX_SAFE_INTEGER),
    limit: numberOf(values, '--limit', 1000, 1, MAX_ROWS),
    json: switches.has('--json'),
  }
}

function logOf(text: string): { readonly topic: string; readonly partition: number } {
  const match = /^(.+)\/(\d{1,10})$/.exec(text)
  if (match === null) throw new InspectError(`--log is ${JSON.stringify(text)}; it can be <topic>/<partition>`)
  return { topic: match[1]!, partition: Number(match[2]) }
}

function numberOf(
  values: ReadonlyMap<string, string>,
  name: string,
  standard: number,
  least: number,
  most: number,
): number {
  const text = values.get(name)
  if (text === undefined) return standard
  const value = /^\d+$/.test(text) ? Number(text) : Number.NaN
  if (value >= least && value <= most) return value
  throw new InspectError(`${name} is ${JSON.stringify(text)}; it can be a whole number from ${least} to ${most}`)
}
