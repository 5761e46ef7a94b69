// What `millrace-broker dev` is told: how many brokers, and settings that all of them share.
import { flagOf, readArguments, resolveSettings, type SettingKey } from '../config.js'
import { MAX_DEV_BROKERS } from '../limits.js'
import { integer } from '../setting-values.js'
import { StartError } from '../start-error.js'

export interface DevOptions {
  readonly brokers: number
  /** Whether a broker that ends by itself is started again. */
  readonly restarts: boolean
  /** Port of the first broker, the others follow; null for free ones. */
  readonly port: number | null
  /** Null for a temporary directory. */
  readonly dataDirectory: string | null
  readonly memoryBytes: number | null
  readonly json: boolean
  readonly stopTimeoutMs: number
  /** Flags that are passed on as they are. */
  readonly passed: readonly string[]
  readonly help: boolean
}

const DEFAULT_BROKERS = 3
/** The cluster decides them for each of its brokers. */
const DECIDED: readonly SettingKey[] = ['host', 'members', 'nodeId', 'clusterId', 'advertise', 'bootstrap', 'insecure']
const OWN: readonly SettingKey[] = ['data', 'port', 'memory', 'json', 'stopTimeoutMs']

/** @throws StartError INVALID_CONFIG for what cannot be meant, in the words of `start`. */
export function readDevOptions(args: readonly string[], variables: NodeJS.ProcessEnv): DevOptions {
  const own = takeOwnFlags(args)
  const line = readArguments(own.rest)
  if (line.configPath !== null) throw invalid('--config is for one broker: give dev its settings by flags')
  for (const key of DECIDED) {
    if (line.flags.has(key)) throw invalid(`dev decides ${flagOf(key)} for each of its brokers: leave it out`)
  }
  const settings = resolveSettings({ flags: line.flags, variables: withoutOthers(variables), file: null })
  const port = line.flags.has('port') && settings.port !== 0 ? settings.port : null
  if (port !== null && port + own.brokers - 1 > 65_535) throw invalid(`--port ${port} leaves no room for all brokers`)
  return {
    brokers: own.brokers,
    restarts: own.restarts,
    port,
    dataDirectory: line.flags.has('data') ? settings.data : null,
    memoryBytes: settings.memory ?? null,
    json: settings.json,
    stopTimeoutMs: settings.stopTimeoutMs,
    passed: [...line.flags]
      .filter(([key]) => !OWN.some((one) => one === key))
      .map(([key, value]) => `${flagOf(key)}=${String(value)}`),
    help: line.help,
  }
}

function takeOwnFlags(args: readonly string[]) {
  const rest: string[] = []
  let brokers = DEFAULT_BROKERS
  let restarts = false
  for (let at = 0; at < args.length; at++) {
    const argument = args[at]!
    if (argument === '--restart') restarts = true
    else if (argument === '--brokers') brokers = brokerCount(args[++at])
    else if (argument.startsWith('--brokers=')) brokers = brokerCount(argument.slice('--brokers='.length))
    else rest.push(argument)
  }
  return { rest, brokers, restarts }
}

function brokerCount(value: string | undefined): number {
  if (value === undefined) throw invalid('--brokers needs a value')
  try {
    return integer(1, MAX_DEV_BROKERS)(value)
  } catch (cause) {
    const words = cause instanceof Error ? cause.message : String(cause)
    throw invalid(`--brokers is ${JSON.stringify(value)}; it can be ${words}`, cause)
  }
}

/** Variables that are meant for one broker mean nothing to a cluster of them. */
export function withoutOthers(variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const none = ['HOST', 'PORT', 'DATA', 'MEMBERS', 'NODE_ID', 'CLUSTER_ID', 'ADVERTISE', 'BOOTSTRAP', 'CONFIG']
  const names = new Set(none.map((name) => `MILLRACE_${name}`))
  return Object.fromEntries(Object.entries(variables).filter(([name]) => !names.has(name)))
}

function invalid(message: string, cause?: unknown): StartError {
  return new StartError('INVALID_CONFIG', message, { cause })
}
