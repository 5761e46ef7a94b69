// Every setting of the broker's command, in one table: its flag, its environment variable, its key in the file, its
// default and its meaning. Flags win over variables, variables over the file, the file over defaults.

import { readAddresses } from './joining/addresses.js'
import {
  ACCEPTS_PER_SECOND,
  DEFAULT_GROUP_PARTITIONS,
  LEAST_MEMORY_BYTES,
  MAX_CONNECTIONS_PER_ADDRESS,
  MAX_GROUP_PARTITIONS,
} from './limits.js'
import { readMembers, withOwnAddress } from './members.js'
import { editDistance, nearestOf } from './nearest.js'
import { byteSize, choice, flag, hexId, integer, type ReadValue, text } from './setting-values.js'
import { StartError } from './start-error.js'

interface Setting<T> {
  readonly read: ReadValue<T>
  /** Undefined: there is none, or the program works it out. */
  readonly default: T | undefined
  /** For `--help`: what stands behind the flag, empty for a switch, and what it means. */
  readonly placeholder: string
  readonly help: string
}

function setting<T>(read: ReadValue<T>, standard: T, placeholder: string, help: string): Setting<T> & { default: T }
function setting<T>(read: ReadValue<T>, standard: undefined, placeholder: string, help: string): Setting<T | undefined>
function setting<T>(read: ReadValue<T>, standard: T | undefined, placeholder: string, help: string): Setting<T> {
  return { read, default: standard, placeholder, help }
}

/** Keys are those of the file; `requireDirect` is `--require-direct` and MILLRACE_REQUIRE_DIRECT. */
const SETTINGS = {
  data: setting(text, './millrace-data', '<dir>', 'data directory, made when missing'),
  host: setting(text, '127.0.0.1', '<address>', 'address to listen on'),
  port: setting(integer(0, 65_535), 7420, '<n>', 'port to listen on, 0 for a free one'),
  members: setting(readMembers, undefined, '<list>', 'all nodes of the cluster: 1=host:port,2=host:port,3=host:port'),
  join: setting(readAddresses, undefined, '<list>', 'become part of a cluster: host:port of any of its brokers'),
  rack: setting(text, undefined, '<name>', 'what fails together; replicas are spread over racks'),
  advertise: setting(text, undefined, '<host[:port]>', 'what clients are told to connect to'),
  memory: setting(byteSize(LEAST_MEMORY_BYTES), undefined, '<size>', 'memory for data, such as 512m or 2g'),
  reserve: setting(byteSize(0), 0, '<size>', 'disk space written ahead, for bursts of flushed records'),
  scrubRate: setting(byteSize(0), undefined, '<size>', 'bytes a second read to find damage on disk, 0 for none [8m]'),
  environment: setting(
    choice('auto', 'ring', 'portable'),
    'auto',
    'auto|ring|portable',
    'io_uring, or node:fs and node:net',
  ),
  requireDirect: setting(flag, false, '', 'refuse file systems without direct I/O'),
  maxConnectionsPerAddress: setting(
    integer(0, 1_000_000),
    MAX_CONNECTIONS_PER_ADDRESS,
    '<n>',
    'connections from one address, 0 for no limit',
  ),
  acceptsPerSecond: setting(
    integer(0, 1_000_000),
    ACCEPTS_PER_SECOND,
    '<n>',
    'new connections a second, 0 for no limit',
  ),
  insecure: setting(flag, false, '', 'listen on other addresses than loopback without authentication'),
  bootstrap: setting(flag, false, '', 'begin a new cluster in an empty directory (implied on loopback without --join)'),
  nodeId: setting(
    integer(1, 0xffff_fffe),
    undefined,
    '<n>',
    'which of the members this is; the data of another is refused',
  ),
  clusterId: setting(hexId, undefined, '<id>', 'refuse the data of another cluster [of a new one: from --members]'),
  clusterKeyFile: setting(text, undefined, '<file>', 'keys that gossip is sealed with, read again on SIGHUP'),
  groupPartitions: setting(
    integer(1, MAX_GROUP_PARTITIONS),
    DEFAULT_GROUP_PARTITIONS,
    '<n>',
    'partitions of the topic of consumer groups, when it is made',
  ),
  stopTimeoutMs: setting(integer(0, 3_600_000), 10_000, '<n>', 'how long a stop waits for requests in flight'),
  logFormat: setting(choice('text', 'json'), 'text', 'text|json', 'form of the log on standard error'),
  logLevel: setting(
    choice('debug', 'info', 'warn', 'error', 'silent'),
    'info',
    '<level>',
    'debug, info, warn, error, silent',
  ),
  json: setting(flag, false, '', 'the line on standard output is a JSON object'),
} as const

type Settings = typeof SETTINGS
export type SettingKey = keyof Settings
export type BrokerSettings = {
  readonly [K in SettingKey]: Settings[K] extends Setting<infer T> ? T : never
}

const KEYS = Object.keys(SETTINGS) as SettingKey[]
const PREFIX = 'MILLRACE_'
/** A variable this close to a known one is a typing error; others belong to other programs. */
const TYPING_ERROR = 2
/** Names brokers for the command `millrace`; a shell that has it set must be able to start a broker all the same. */
const VARIABLE_OF_CLIENTS = 'MILLRACE_BOOTSTRAP'

const words = (key: string): string[] => key.split(/(?=[A-Z])/).map((word) => word.toLowerCase())
export const flagOf = (key: string): string => `--${words(key).join('-')}`
export const variableOf = (key: string): string => PREFIX + words(key).join('_').toUpperCase()

/** Where settings come from, besides the defaults. */
export interface SettingSources {
  /** By key, as `readArguments` gives them. */
  readonly flags: ReadonlyMap<string, unknown>
  readonly variables: Readonly<Record<string, string | undefined>>
  /** Name and content of the file, null without one. */
  readonly file: { readonly path: string; readonly text: string } | null
}

/** @throws StartError INVALID_CONFIG that names the setting, where it stands and what it may be. */
export function resolveSettings(sources: SettingSources): BrokerSettings {
  const given = new Map<string, { readonly value: unknown; readonly where: string }>()
  for (const [key, value] of Object.entries(fileValues(sources.file))) {
    given.set(key, { value, where: `${key} in ${sources.file?.path}` })
  }
  for (const [name, value] of Object.entries(sources.variables)) {
    const key = name.startsWith(PREFIX) && value !== undefined ? keyOfVariable(name) : null
    if (key !== null) given.set(key, { value, where: name })
  }
  for (const [key, value] of sources.flags) given.set(key, { value, where: flagOf(key) })

  const settings: Record<string, unknown> = {}
  for (const key of KEYS) {
    const found = given.get(key)
    settings[key] = found === undefined ? SETTINGS[key].default : readValue(key, found.value, found.where)
  }
  return withMembers(settings as BrokerSettings, given)
}

/** A node that has a list of members listens where it says, unless told otherwise. @throws StartError INVALID_CONFIG */
function withMembers(settings: BrokerSettings, given: ReadonlyMap<string, unknown>): BrokerSettings {
  const { members, nodeId, host, port } = settings
  const filled = withOwnAddress({
    ...(members && { members }),
    ...(nodeId !== undefined && { nodeId }),
    ...(given.has('host') && { host }),
    ...(given.has('port') && { port }),
  })
  if (members !== undefined && given.has('advertise')) {
    throw invalid('--members says what clients are told to connect to: leave --advertise out')
  }
  return { ...settings, host: filled.host ?? host, port: filled.port ?? port }
}

function readValue(key: SettingKey, value: unknown, where: string): unknown {
  try {
    return SETTINGS[key].read(value)
  } catch (cause) {
    if (!(cause instanceof RangeError)) throw cause
    throw invalid(`${where} is ${JSON.stringify(value)}; it can be ${cause.message}`, cause)
  }
}

function fileValues(file: SettingSources['file']): Record<string, unknown> {
  if (file === null) return {}
  let values: unknown
  try {
    values = JSON.parse(file.text)
  } catch (cause) {
    throw invalid(`${file.path} is not JSON: ${cause instanceof Error ? cause.message : String(cause)}`, cause)
  }
  if (typeof values !== 'object' || values === null || Array.isArray(values)) {
    throw invalid(`${file.path} does not hold a JSON object`)
  }
  for (const key of Object.keys(values)) {
    if (!isKey(key)) throw invalid(`${file.path} has an unknown key ${key}; did you mean ${nearestOf(key, KEYS)}?`)
  }
  return values as Record<string, unknown>
}

function keyOfVariable(name: string): SettingKey | null {
  if (name === VARIABLE_OF_CLIENTS) return null
  const known = KEYS.find((key) => variableOf(key) === name)
  if (known !== undefined) return known
  const nearest = nearestOf(name, KEYS.map(variableOf))
  if (editDistance(name, nearest) > TYPING_ERROR) return null
  throw invalid(`the environment has ${name}; did you mean ${nearest}?`)
}

const isKey = (key: string): key is SettingKey => Object.hasOwn(SETTINGS, key)

/** What a command line says: settings by key, and the file to read, if one is named. */
export interface CommandLine {
  readonly flags: ReadonlyMap<string, unknown>
  readonly configPath: string | null
  readonly help: boolean
}

/**
 * Reads `--flag value`, `--flag=value` and switches.
 * @throws StartError INVALID_CONFIG for a flag nobody knows, one without its value, and anything that is no flag.
 */
export function readArguments(args: readonly string[]): CommandLine {
  const flags = new Map<string, unknown>()
  let configPath: string | null = null
  let help = false
  for (let at = 0; at < args.length; at++) {
    const argument = args[at]!
    if (argument === '--help' || argument === '-h') {
      help = true
      continue
    }
    const [name, inline] = splitFlag(argument)
    const key = name === '--config' ? 'config' : KEYS.find((candidate) => flagOf(candidate) === name)
    if (key === undefined) throw unknownFlag(argument, name)
    if (key !== 'config' && SETTINGS[key].placeholder === '') {
      flags.set(key, inline ?? true)
      continue
    }
    const value = inline ?? args[++at]
    if (value === undefined) throw invalid(`${name} needs a value`)
    if (key === 'config') configPath = value
    else flags.set(key, value)
  }
  return { flags, configPath, help }
}

function splitFlag(argument: string): readonly [string, string | undefined] {
  const equals = argument.indexOf('=')
  return equals < 0 ? [argument, undefined] : [argument.slice(0, equals), argument.slice(equals + 1)]
}

function unknownFlag(argument: string, name: string): StartError {
  if (!argument.startsWith('-')) return invalid(`${argument} is not a flag; see --help`)
  return invalid(`${name} is unknown; did you mean ${nearestOf(name, ['--config', '--help', ...KEYS.map(flagOf)])}?`)
}

function invalid(message: string, cause?: unknown): StartError {
  return new StartError('INVALID_CONFIG', message, { cause })
}

/** The flags as lines of `--help`. */
export function describeSettings(): readonly string[] {
  const rows: (readonly [string, string])[] = KEYS.map((key) => {
    const { placeholder, help, default: standard } = SETTINGS[key]
    const shown = standard === undefined || standard === false ? '' : ` [${String(standard)}]`
    return [`${flagOf(key)} ${placeholder}`.trim(), help + shown]
  })
  rows.push(['--config <file>', 'the same settings as a JSON object, keys as in requireDirect'])
  const width = Math.max(...rows.map(([left]) => left.length))
  return rows.map(([left, right]) => `  ${left.padEnd(width)}  ${right}`)
}
