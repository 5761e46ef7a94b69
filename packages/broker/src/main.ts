// The command millrace-broker: start, dev, doctor, log, version. Exit codes: 0 done, 1 could not, 2 wrong use, 3 removed from
// the cluster for good.
import { readFile, rm } from 'node:fs/promises'
import { hostname } from 'node:os'
import { dirname, join, resolve } from 'node:path'
import { type Broker, startBroker } from './broker.js'
import { type BrokerSettings, describeSettings, readArguments, resolveSettings } from './config.js'
import { runDevCluster } from './dev/dev-command.js'
import { readDevOptions } from './dev/dev-options.js'
import { examineDisk } from './doctor/examine-disk.js'
import { examineMachine } from './doctor/examine-machine.js'
import { type DoctorFinding, isHealthy, renderFindings } from './doctor/findings.js'
import { DiskError, type Environment, type LogFields, type Logger } from './environment.js'
import { readClusterKeys } from './gossip/cluster-keys.js'
import type { GossipKey } from './gossip/keyring.js'
import { runLogCommand } from './inspect/log-command.js'
import { InspectError } from './inspect/reports.js'
import { chooseEnvironment, EnvironmentUnavailableError } from './io/choose-environment.js'
import { createConsoleLogger } from './io/console-logger.js'
import { directoryHolder } from './io/directory-lock.js'
import { defaultMemoryBytes, fileSystemOf, machineFacts } from './io/machine.js'
import { nearestDirectory } from './io/nearest-directory.js'
import { createPortableEnvironment } from './io/portable/portable-environment.js'
import { refusePseudoFileSystem } from './io/pseudo-file-system.js'
import { openReadOnlyVolume } from './io/read-only-volume.js'
import { unpack } from './io/unpack.js'
import { LEAST_MEMORY_BYTES, REMOVED_EXIT_CODE } from './limits.js'
import { nearestOf } from './nearest.js'
import { StartError } from './start-error.js'
import { SOFTWARE, VERSION } from './version.js'

const DONE = 0
const FAILED = 1
const WRONG_USE = 2

const COMMANDS = ['start', 'dev', 'doctor', 'log', 'version', 'help']
/** `log` needs room for the largest group, and for a few reads ahead. */
const LOG_MEMORY_BYTES = 64 * 1024 * 1024

const HELP = `millrace-broker ${VERSION}: the broker of Millrace

  millrace-broker start [flags]    run a broker until SIGTERM or SIGINT
  millrace-broker dev [--brokers 3] [--restart] [flags]
                                   run a cluster of processes on this machine; --port is that of the first
  millrace-broker doctor [flags]   look at kernel, memory and disk, and say what would help
  millrace-broker log inspect|verify <dir>
                                   what is in the data directory of a stopped broker, and whether it is whole
  millrace-broker version          print the version

Flags, also as variables (MILLRACE_PORT) and in a file; flags win over variables, variables over the file:
${describeSettings().join('\n')}
`

/** Timers of an environment keep no process alive, and what is awaited here may hang on one. */
const alive = setInterval(() => {}, 60_000)
const [command = 'help', ...rest] = process.argv.slice(2)
process.exitCode = await run(command, rest)
clearInterval(alive)

async function run(name: string, args: readonly string[]): Promise<number> {
  try {
    if (name === 'start' || name === 'doctor') {
      const settings = await settingsFrom(args)
      if (settings === null) return show(HELP)
      return name === 'start' ? await runBroker(settings) : await runDoctor(settings)
    }
    if (name === 'dev') {
      const options = readDevOptions(args, process.env)
      return options.help ? show(HELP) : (await runDevCluster(options)) ? DONE : FAILED
    }
    if (name === 'log') return await runLog(args)
    if (name === 'version' || name === '--version' || name === '-v') return show(`${VERSION}\n`)
    if (name === 'help' || name === '--help' || name === '-h') return show(HELP)
    process.stderr.write(`millrace-broker: there is no command ${name}; did you mean ${nearestOf(name, COMMANDS)}?\n`)
    return WRONG_USE
  } catch (error) {
    return explain(error)
  }
}

function show(words: string): number {
  process.stdout.write(words)
  return DONE
}

/** One clear line for what the world or the user did; a stack only for bugs. */
function explain(error: unknown): number {
  if (error instanceof StartError) {
    process.stderr.write(`millrace-broker: ${error.message}\n`)
    if (error.code === 'NODE_REMOVED') return REMOVED_EXIT_CODE
    return error.code === 'INVALID_CONFIG' || error.code === 'INSECURE' ? WRONG_USE : FAILED
  }
  if (error instanceof EnvironmentUnavailableError) {
    process.stderr.write(`millrace-broker: ${error.message}\n`)
    return FAILED
  }
  if (error instanceof InspectError) {
    process.stderr.write(`millrace-broker: ${error.message}\n`)
    return WRONG_USE
  }
  process.stderr.write(`millrace-broker: unexpected error: ${error instanceof Error ? error.stack : String(error)}\n`)
  return FAILED
}

/** Null when help was asked for. @throws StartError INVALID_CONFIG */
async function settingsFrom(args: readonly string[]): Promise<BrokerSettings | null> {
  const line = readArguments(args)
  if (line.help) return null
  const path = line.configPath ?? process.env.MILLRACE_CONFIG ?? null
  const file = path === null ? null : { path, text: await readConfigFile(path) }
  return resolveSettings({ flags: line.flags, variables: withoutConfig(process.env), file })
}

/** MILLRACE_CONFIG names the file and is no setting in it. */
function withoutConfig(variables: NodeJS.ProcessEnv): NodeJS.ProcessEnv {
  const { MILLRACE_CONFIG: _, ...others } = variables
  return others
}

async function readConfigFile(path: string): Promise<string> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause)
    throw new StartError('INVALID_CONFIG', `the file of --config cannot be read: ${reason}`, { cause })
  }
}

/** Which environment was chosen and why: the choice says so in its log line, and the ready line repeats it. */
interface ChosenEnvironment {
  readonly environment: Environment
  readonly reason: string | null
}

async function environmentFor(settings: BrokerSettings, logger: Logger): Promise<ChosenEnvironment> {
  let reason: string | null = null
  const listening = (log: (fields: LogFields, message: string) => void) => (fields: LogFields, message: string) => {
    if (typeof fields.reason === 'string') reason = fields.reason
    log(fields, message)
  }
  const { debug, error } = logger
  const spy: Logger = { debug, info: listening(logger.info), warn: listening(logger.warn), error }
  const memoryBytes = settings.memory ?? defaultMemoryBytes()
  const environment = await chooseEnvironment({ prefer: settings.environment, memoryBytes, logger: spy })
  return { environment, reason }
}

async function runBroker(settings: BrokerSettings): Promise<number> {
  const logger = createConsoleLogger({ level: settings.logLevel, format: settings.logFormat })
  const clusterKeys = settings.clusterKeyFile === undefined ? null : await keysIn(settings.clusterKeyFile)
  endOnUnexpectedErrors(logger)
  const { environment, reason } = await environmentFor(settings, logger)
  let tellRemoved: () => void = () => {}
  const removed = new Promise<'removed'>((resolve) => {
    tellRemoved = () => resolve('removed')
  })
  let broker: Broker
  try {
    broker = await startBroker(environment, {
      dataDirectory: settings.data,
      host: settings.host,
      port: settings.port,
      ...advertised(settings),
      requireDirect: settings.requireDirect,
      reserveBytes: settings.reserve,
      ...(settings.scrubRate === undefined ? {} : { scrubBytesPerSecond: settings.scrubRate }),
      insecure: settings.insecure,
      maxConnectionsPerAddress: settings.maxConnectionsPerAddress,
      acceptsPerSecond: settings.acceptsPerSecond,
      groupPartitions: settings.groupPartitions,
      ...(settings.bootstrap ? { bootstrap: true } : {}),
      ...(settings.nodeId === undefined ? {} : { nodeId: settings.nodeId }),
      ...(settings.clusterId === undefined ? {} : { clusterId: settings.clusterId }),
      ...(clusterKeys === null ? {} : { clusterKeys }),
      ...(settings.members === undefined ? {} : { members: settings.members }),
      ...(settings.join === undefined ? {} : { join: settings.join }),
      ...(settings.rack === undefined ? {} : { rack: settings.rack }),
      onHalt: () => process.exit(FAILED),
      onRemoved: tellRemoved,
    })
  } catch (error) {
    await environment.close()
    throw error
  }
  if (settings.clusterKeyFile !== undefined) changeKeysOnSignal(broker, settings.clusterKeyFile, logger)
  // Listening before the ready line: whoever reads it may send a signal at once.
  const signalled = nextSignal()
  sayReady(broker, environment, reason, settings)
  const signal = await Promise.race([signalled, removed])
  const isRemoved = signal === 'removed'
  if (isRemoved)
    logger.error({}, 'stopping: this broker was removed from the cluster, and does not start again on its data')
  else logger.info({ signal }, 'stopping; another signal ends at once')
  process.once('SIGTERM', () => process.exit(FAILED))
  process.once('SIGINT', () => process.exit(FAILED))
  process.channel?.unref()
  const failure = await broker.stop({ timeoutMs: settings.stopTimeoutMs }).then(
    () => null,
    (cause: unknown) => ({ cause }),
  )
  await environment.close()
  if (failure === null) logger.info({}, 'stopped')
  else logger.error(failure, 'stopped, but not everything could be flushed; what was acknowledged as flushed is safe')
  if (isRemoved) return REMOVED_EXIT_CODE
  return failure === null ? DONE : FAILED
}

function advertised(settings: BrokerSettings): { advertisedHost?: string; advertisedPort?: number } {
  const { advertise, host, members } = settings
  // The list of members says it; the broker takes it from there.
  if (members !== undefined) return {}
  // Nobody can connect to a wildcard address; the name of the machine is the best guess there is.
  if (advertise === undefined) return host === '0.0.0.0' || host === '::' ? { advertisedHost: hostname() } : {}
  const match = /^(\[[^\]]+\]|[^:]+)(?::(\d{1,5}))?$/.exec(advertise)
  const port = match?.[2] === undefined ? undefined : Number(match[2])
  if (match === null || (port !== undefined && port > 65_535)) {
    throw new StartError('INVALID_CONFIG', `--advertise is ${JSON.stringify(advertise)}; it can be a host or host:port`)
  }
  const advertisedHost = match[1]!.replace(/^\[|\]$/g, '')
  return port === undefined ? { advertisedHost } : { advertisedHost, advertisedPort: port }
}

/** One line on standard output once clients may come; everything else is log. */
function sayReady(broker: Broker, environment: Environment, reason: string | null, settings: BrokerSettings): void {
  const { host, port } = broker.address
  const { nodeId, clusterId } = broker
  if (settings.json) {
    const ready = {
      ready: true,
      host,
      port,
      nodeId,
      clusterId,
      environment: environment.kind,
      reason,
      version: VERSION,
    }
    process.stdout.write(`${JSON.stringify(ready)}\n`)
    return
  }
  const why = reason === null ? '' : ` (${reason})`
  const who = `node ${nodeId} of cluster ${clusterId}`
  process.stdout.write(`${SOFTWARE} ready on ${host}:${port}, environment ${environment.kind}${why}, ${who}\n`)
}

/** Keys are changed without stopping anything: edit the file, then send SIGHUP. What cannot be used is left alone. */
function changeKeysOnSignal(broker: Broker, path: string, logger: Logger): void {
  process.on('SIGHUP', () => {
    keysIn(path)
      .then((keys) => {
        broker.setClusterKeys(keys)
        logger.info({ keys: keys.map(({ id }) => id) }, 'gossip has new keys')
      })
      .catch((cause: unknown) => logger.error({ cause }, 'gossip keeps the keys it has'))
  })
}

/** @throws StartError INVALID_CONFIG, which shows nothing of the keys. */
async function keysIn(path: string): Promise<readonly GossipKey[]> {
  try {
    return readClusterKeys(await readFile(path, 'utf8'))
  } catch (cause) {
    const reason =
      cause instanceof RangeError
        ? `has to hold ${cause.message}`
        : `cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`
    throw new StartError('INVALID_CONFIG', `the file of --cluster-key-file ${reason}`, { cause })
  }
}

function nextSignal(): Promise<string> {
  return new Promise((resolve) => {
    for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => resolve(signal))
    // Whoever started this process with a channel to it, as `dev` does, is gone.
    if (process.channel !== undefined) process.once('disconnect', () => resolve('disconnect'))
  })
}

/** What nobody caught is a bug: the log says so, and the process ends before it does harm. */
function endOnUnexpectedErrors(logger: Logger): void {
  for (const event of ['uncaughtException', 'unhandledRejection']) {
    process.on(event, (error: unknown) => {
      logger.error({ error }, `${event}: the broker ends`)
      process.exit(FAILED)
    })
  }
}

/** Reads the data directory of a stopped broker, by node:fs alone. What cannot be read is exit code 2, as wrong use. */
async function runLog(args: readonly string[]): Promise<number> {
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  const environment = createPortableEnvironment({ memoryBytes: LOG_MEMORY_BYTES, logger })
  const { memory, clock } = environment
  try {
    return await runLogCommand(args, {
      memory,
      clock,
      unpack,
      openVolume: (directory) => openReadOnlyVolume(directory, memory),
      holderOf: directoryHolder,
      print: show,
      showProgress: process.stderr.isTTY ? (words) => process.stderr.write(`\r\u001b[K${words}`) : null,
    })
  } catch (cause) {
    throw cause instanceof DiskError ? new InspectError(cause.message, { cause }) : cause
  } finally {
    await environment.close()
  }
}

/** Looks at the machine and at the file system of the data directory; leaves nothing behind. */
async function runDoctor(settings: BrokerSettings): Promise<number> {
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  const facts = await machineFacts()
  const findings: DoctorFinding[] = [...examineMachine(facts)]
  const { environment } = await environmentFor({ ...settings, memory: LEAST_MEMORY_BYTES }, logger)
  const scratch = join(await nearestDirectory(resolve(settings.data)), `.millrace-doctor-${process.pid}`)
  let flush: unknown = null
  try {
    await refusePseudoFileSystem(resolve(settings.data))
    const report = await examineDisk(environment, scratch, await fileSystemOf(dirname(scratch)))
    findings.push(...report.findings)
    flush = report.flush
  } catch (error) {
    const finding = error instanceof Error ? error.message : String(error)
    findings.push({
      subject: 'disk',
      state: 'bad',
      finding,
      hint: 'give --data a directory on a disk, which this user may write to',
    })
  } finally {
    await environment.close()
    await rm(scratch, { recursive: true, force: true })
  }
  const healthy = isHealthy(findings)
  if (settings.json)
    show(`${JSON.stringify({ healthy, environment: environment.kind, machine: facts, flush, findings })}\n`)
  else show(renderFindings(findings))
  return healthy ? DONE : FAILED
}
