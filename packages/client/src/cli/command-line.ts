// From words to a command: which command, its options and its arguments, with every mistake named.
import { parseArgs } from 'node:util'
import { UsageError } from './exit-codes.js'

interface Option {
  readonly type: 'string' | 'boolean'
  readonly short?: string
}

const GLOBAL_OPTIONS = {
  bootstrap: { type: 'string', short: 'b' },
  json: { type: 'boolean' },
  help: { type: 'boolean', short: 'h' },
} as const satisfies Record<string, Option>

interface CommandShape {
  readonly options: Readonly<Record<string, Option>>
  /** Names of the arguments, all of them required. */
  readonly arguments: readonly string[]
}

/** Every command there is. An option of one name has one type in all of them. */
export const COMMANDS = {
  'topic create': {
    options: {
      partitions: { type: 'string', short: 'p' },
      replicas: { type: 'string', short: 'r' },
      durability: { type: 'string' },
      codecs: { type: 'string' },
      retention: { type: 'string' },
      'retention-bytes': { type: 'string' },
    },
    arguments: ['TOPIC'],
  },
  'topic list': { options: { internal: { type: 'boolean' } }, arguments: [] },
  'topic describe': { options: {}, arguments: ['TOPIC'] },
  'topic alter': {
    options: {
      partitions: { type: 'string', short: 'p' },
      replicas: { type: 'string', short: 'r' },
      'break-key-order': { type: 'boolean' },
      retention: { type: 'string' },
      'retention-bytes': { type: 'string' },
    },
    arguments: ['TOPIC'],
  },
  'topic delete': { options: { yes: { type: 'boolean', short: 'y' } }, arguments: ['TOPIC'] },
  produce: {
    options: {
      'key-separator': { type: 'string', short: 'k' },
      file: { type: 'string' },
      acks: { type: 'string' },
      codec: { type: 'string' },
    },
    arguments: ['TOPIC'],
  },
  consume: {
    options: {
      from: { type: 'string' },
      group: { type: 'string', short: 'g' },
      count: { type: 'string', short: 'n' },
      until: { type: 'string' },
      format: { type: 'string', short: 'f' },
      output: { type: 'string', short: 'o' },
    },
    arguments: ['TOPIC'],
  },
  'group list': { options: {}, arguments: [] },
  'group describe': { options: {}, arguments: ['GROUP'] },
  'group reset': {
    options: { to: { type: 'string' }, partitions: { type: 'string', short: 'p' } },
    arguments: ['GROUP', 'TOPIC'],
  },
  'group delete': { options: { yes: { type: 'boolean', short: 'y' } }, arguments: ['GROUP'] },
  'cluster status': { options: {}, arguments: [] },
  'cluster health': { options: {}, arguments: [] },
  'cluster members': { options: {}, arguments: [] },
  'broker drain': { options: { undo: { type: 'boolean' }, wait: { type: 'boolean' } }, arguments: ['NODE'] },
  'broker remove': { options: { force: { type: 'boolean' } }, arguments: ['NODE'] },
  'partition move': {
    options: { to: { type: 'string' }, cancel: { type: 'boolean' }, wait: { type: 'boolean' } },
    arguments: ['TOPIC', 'PARTITION'],
  },
  'partition moves': { options: {}, arguments: [] },
  version: { options: {}, arguments: [] },
} as const satisfies Record<string, CommandShape>
export type CommandName = keyof typeof COMMANDS

/** What a person asked for. `name` is null for `--help` without a command, and for no words at all. */
export interface CommandLine {
  readonly name: CommandName | null
  readonly help: boolean
  readonly json: boolean
  /** As given: the client reads comma-separated lists. */
  readonly bootstrap: string
  readonly topic: string
  /** In the order of the command's `arguments`; the topic is the first of those that have one. */
  readonly arguments: readonly string[]
  /** Options of the command that were given. */
  readonly values: Readonly<Record<string, string | undefined>>
  readonly yes: boolean
  /** Switches of the command that were given. */
  readonly switches: ReadonlySet<string>
}

const DEFAULT_BOOTSTRAP = 'localhost:7420'

/** @throws UsageError that names the mistake and the help to read. */
export function readCommandLine(typed: readonly string[], environment: NodeJS.ProcessEnv): CommandLine {
  // What every program is asked first, in the words that most of them know.
  const words = typed[0] === '--version' || typed[0] === '-v' ? ['version', ...typed.slice(1)] : typed
  const name = findCommand(words)
  const shape: CommandShape = name === null ? { options: {}, arguments: [] } : COMMANDS[name]
  const { values, positionals } = parse(words, shape, name)
  const given = positionals.slice(name === null ? 0 : name.split(' ').length)
  const help = values.help === true || words.length === 0
  if (name === null && !help) throw new UsageError(unknownCommand(positionals))
  if (!help) checkArguments(name ?? '', shape.arguments, given)
  const texts = Object.entries(values).filter((entry): entry is [string, string] => typeof entry[1] === 'string')
  return {
    name,
    help,
    json: values.json === true,
    bootstrap: (values.bootstrap as string | undefined) ?? environment.MILLRACE_BOOTSTRAP ?? DEFAULT_BOOTSTRAP,
    topic: given[0] ?? '',
    arguments: given,
    values: Object.fromEntries(texts),
    yes: values.yes === true,
    switches: new Set(Object.keys(values).filter((option) => values[option] === true)),
  }
}

/** The command that the words name, wherever options stand between them; null for none. */
function findCommand(words: readonly string[]): CommandName | null {
  const options = Object.assign({}, GLOBAL_OPTIONS, ...Object.values(COMMANDS).map((command) => command.options))
  const { positionals } = parseArgs({ args: [...words], options, strict: false, allowPositionals: true })
  for (const length of [2, 1]) {
    const candidate = positionals.slice(0, length).join(' ')
    if (Object.hasOwn(COMMANDS, candidate)) return candidate as CommandName
  }
  return null
}

function parse(words: readonly string[], shape: CommandShape, name: CommandName | null) {
  try {
    const options: Record<string, Option> = { ...GLOBAL_OPTIONS, ...shape.options }
    return parseArgs({ args: [...words], options, strict: true, allowPositionals: true })
  } catch (error) {
    // Node's own words are kept up to the first sentence; what follows is advice for other programs.
    const message = error instanceof Error ? (error.message.split(/[.\n] ?/)[0] ?? '') : String(error)
    throw new UsageError(message, name ?? undefined)
  }
}

function unknownCommand(positionals: readonly string[]): string {
  if (positionals[0] === undefined) return 'no command was given'
  const [noun, verb] = positionals
  const verbs = Object.keys(COMMANDS).flatMap((name) => (name.startsWith(`${noun} `) ? [name.split(' ')[1]] : []))
  if (verbs.length > 0) {
    const mistake = verb === undefined ? `${noun} needs a verb` : `${noun} has no verb ${verb}`
    return `${mistake}: ${verbs.slice(0, -1).join(', ')} or ${verbs.at(-1)}`
  }
  return `there is no command ${positionals[0]}`
}

function checkArguments(name: string, wanted: readonly string[], given: readonly string[]): void {
  const missing = wanted[given.length]
  if (missing !== undefined) throw new UsageError(`${name} needs ${missing}`, name)
  const extra = given[wanted.length]
  if (extra !== undefined) throw new UsageError(`${name} takes no further argument, but was given ${extra}`, name)
}

/** A whole number of at least `minimum`, or undefined when the option was not given. @throws UsageError. */
export function readInteger(line: CommandLine, option: string, minimum: number): number | undefined {
  const text = line.values[option]
  if (text === undefined) return undefined
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < minimum) {
    throw new UsageError(`--${option} needs a whole number of at least ${minimum}, not ${text}`, line.name ?? undefined)
  }
  return value
}

/** An argument that is a whole number. @throws UsageError. */
export function readArgument(line: CommandLine, at: number, what: string, minimum: number): number {
  const text = line.arguments[at] ?? ''
  const value = Number(text)
  if (!/^\d+$/.test(text) || !Number.isSafeInteger(value) || value < minimum) {
    throw new UsageError(`${what} is a whole number of at least ${minimum}, not ${text}`, line.name ?? undefined)
  }
  return value
}

/** One of `choices`, or undefined when the option was not given. @throws UsageError. */
export function readChoice<C extends string>(line: CommandLine, option: string, choices: readonly C[]): C | undefined {
  const text = line.values[option]
  if (text === undefined) return undefined
  const choice = choices.find((candidate) => candidate === text)
  if (choice === undefined) {
    throw new UsageError(`--${option} is one of ${choices.join(', ')}, not ${text}`, line.name ?? undefined)
  }
  return choice
}
