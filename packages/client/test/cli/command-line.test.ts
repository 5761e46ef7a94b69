// What people type, and what they are told when they mistype it.
import { describe, expect, it } from 'vitest'
import { readBytes, readDuration } from '#src/cli/amounts.js'
import {
  COMMANDS,
  type CommandName,
  readArgument,
  readChoice,
  readCommandLine,
  readInteger,
} from '#src/cli/command-line.js'
import { readStart } from '#src/cli/consume.js'
import { helpPage } from '#src/cli/help.js'
import { formatTable } from '#src/cli/table.js'

const read = (words: string, environment: NodeJS.ProcessEnv = {}) =>
  readCommandLine(words === '' ? [] : words.split(' '), environment)

describe('a command line', () => {
  it('may have options anywhere', () => {
    const expected = { name: 'topic create', topic: 'orders', bootstrap: 'h:1', json: true, help: false }
    for (const words of [
      'topic create orders -p 3 -b h:1 --json',
      '-b h:1 topic --json create --partitions 3 orders',
      '--bootstrap=h:1 --json topic create -p3 orders',
    ]) {
      const line = read(words)
      expect(line).toMatchObject(expected)
      expect(readInteger(line, 'partitions', 1)).toBe(3)
    }
  })

  it('knows the version by the option that other programs have', () => {
    for (const words of ['version', '--version', '-v']) expect(read(words).name).toBe('version')
    expect(read('--version --json').json).toBe(true)
  })

  it('takes the addresses from the environment, then the default', () => {
    expect(read('version').bootstrap).toBe('localhost:7420')
    expect(read('version', { MILLRACE_BOOTSTRAP: 'a:1,b:2' }).bootstrap).toBe('a:1,b:2')
    expect(read('version -b c:3', { MILLRACE_BOOTSTRAP: 'a:1' }).bootstrap).toBe('c:3')
  })

  it.each([
    ['orders', 'there is no command orders'],
    ['topic', 'topic needs a verb: create, list, describe, alter or delete'],
    ['topic drop x', 'topic has no verb drop'],
    ['cluster', 'cluster needs a verb: status, health or members'],
    ['cluster heal', 'cluster has no verb heal: status, health or members'],
    ['cluster health me', 'cluster health takes no further argument, but was given me'],
    ['topic create', 'topic create needs TOPIC'],
    ['broker drain', 'broker drain needs NODE'],
    ['partition move orders', 'partition move needs PARTITION'],
    ['topic list extra', 'topic list takes no further argument, but was given extra'],
    ['topic create a b', 'was given b'],
    ['consume t --partitions 3', "Unknown option '--partitions'"],
    ['consume t -f', "Option '-f, --format <value>' argument missing"],
    ['--json', 'no command was given'],
  ])('%j is refused: %s', (words, message) => {
    expect(() => read(words)).toThrow(message)
  })

  it('asks for numbers and choices', () => {
    for (const words of [
      'topic create t -p 0',
      'topic create t -p 1.5',
      'topic create t -p x',
      'topic create t -p 1e3',
    ]) {
      expect(() => readInteger(read(words), 'partitions', 1)).toThrow('--partitions needs a whole number of at least 1')
    }
    expect(() => readChoice(read('produce t --acks some'), 'acks', ['all', 'none'])).toThrow(
      '--acks is one of all, none',
    )
    expect(readChoice(read('produce t'), 'acks', ['all', 'none'])).toBeUndefined()
  })

  it('takes several arguments, numbers among them, and switches', () => {
    const line = read('partition move orders 3 --to 1,2 --wait')
    expect(line).toMatchObject({ topic: 'orders', values: { to: '1,2' } })
    expect([...line.switches]).toEqual(['wait'])
    expect(readArgument(line, 1, 'PARTITION', 0)).toBe(3)
    expect(() => readArgument(read('broker drain 0'), 0, 'NODE', 1)).toThrow(
      'NODE is a whole number of at least 1, not 0',
    )
    expect(() => readArgument(read('broker drain two'), 0, 'NODE', 1)).toThrow('not two')
  })

  it('without words asks for help', () => {
    expect(read('')).toMatchObject({ name: null, help: true })
    expect(read('topic create --help')).toMatchObject({ name: 'topic create', help: true })
  })
})

describe('where to begin', () => {
  it.each([
    ['earliest', 'earliest'],
    ['latest', 'latest'],
    ['0', { offset: 0 }],
    ['42', { offset: 42 }],
    ['@1700000000123', { timestamp: 1_700_000_000_123 }],
    ['2023-11-14T22:13:20Z', { timestamp: 1_700_000_000_000 }],
    ['2023-11-14T22:13:20.5+00:30', { timestamp: 1_700_000_000_500 - 1_800_000 }],
    ['2023-11-14', { timestamp: Date.UTC(2023, 10, 14) }],
  ])('%s is understood', (text, start) => {
    expect(readStart(text, 'from', 'consume')).toEqual(start)
  })

  it.each(['', 'begin', '-5', '1.5', '@', '@x', '2026-13-45', '14 November 2023', '99999999999999999999'])(
    '%j is refused',
    (text) => {
      expect(() => readStart(text, 'from', 'consume')).toThrow('--from is earliest, latest')
    },
  )
})

describe('help', () => {
  it.each([null, ...(Object.keys(COMMANDS) as CommandName[])])('of %s fits one screen', (name) => {
    const lines = helpPage(name).split('\n')
    expect(lines.length).toBeLessThanOrEqual(28)
    for (const line of lines) expect(line.length).toBeLessThanOrEqual(100)
  })

  it('names every option of its command', () => {
    for (const [name, { options }] of Object.entries(COMMANDS)) {
      for (const option of Object.keys(options)) expect(helpPage(name as CommandName)).toContain(`--${option}`)
    }
  })
})

describe('a table', () => {
  const columns = [{ title: 'name' }, { title: 'count', align: 'right' as const }]
  const rows = [
    ['a', '10'],
    ['longer', '7'],
  ]

  it('lines up on a terminal', () => {
    expect(formatTable(columns, rows, { isTerminal: true, color: false })).toBe(
      'NAME    COUNT\na          10\nlonger      7\n',
    )
    expect(formatTable(columns, [], { isTerminal: true, color: true })).toBe('\u001b[1mNAME  COUNT\u001b[0m\n')
  })

  it('is tab-separated in a pipe', () => {
    expect(formatTable(columns, rows, { isTerminal: false, color: false })).toBe('a\t10\nlonger\t7\n')
  })
})

describe('times and sizes', () => {
  const line = (words: string) => readCommandLine(['topic', 'create', 't', ...words.split(' ')], {})

  it('are read in the units people use', () => {
    expect(readDuration(line('--retention 36h'), 'retention')).toBe(129_600_000)
    expect(readBytes(line('--retention-bytes 10G'), 'retention-bytes')).toBe(10 * 2 ** 30)
    expect(readDuration(line('--retention-bytes 10g'), 'retention')).toBeNull()
  })

  it.each(['7', '0d', '1y', '-1d'])('of %s is no time', (text) => {
    expect(() => readDuration(line(`--retention=${text}`), 'retention')).toThrow(/needs a time like 30s/)
  })

  it.each(['10', 'g', '0b', '1d'])('of %s is no size', (text) => {
    expect(() => readBytes(line(`--retention-bytes ${text}`), 'retention-bytes')).toThrow(/needs a size like 512m/)
  })
})
