// Settings from flags, variables, a file and defaults; what is wrong is named, with what was probably meant.
import { describe, expect, it } from 'vitest'
import {
  type BrokerSettings,
  describeSettings,
  flagOf,
  readArguments,
  resolveSettings,
  variableOf,
} from '#src/config.js'
import { editDistance, nearestOf } from '#src/nearest.js'

interface Given {
  readonly args?: readonly string[]
  readonly variables?: Record<string, string>
  readonly file?: unknown
}

function settings({ args = [], variables = {}, file }: Given): BrokerSettings {
  const { flags } = readArguments(args)
  const text = typeof file === 'string' ? file : JSON.stringify(file)
  return resolveSettings({ flags, variables, file: file === undefined ? null : { path: 'broker.json', text } })
}

describe('settings', () => {
  it('have defaults', () => {
    expect(settings({})).toMatchObject({
      data: './millrace-data',
      host: '127.0.0.1',
      port: 7420,
      memory: undefined,
      environment: 'auto',
      requireDirect: false,
      logFormat: 'text',
    })
  })

  it('come from flags before variables before the file', () => {
    const file = { port: 1, host: 'file', logFormat: 'json' }
    const variables = { MILLRACE_PORT: '2', MILLRACE_HOST: 'variable', OTHER: 'x' }
    expect(settings({ args: ['--port', '3'], variables, file })).toMatchObject({
      port: 3,
      host: 'variable',
      logFormat: 'json',
    })
  })

  it('leave the variable alone that tells clients where brokers are', () => {
    expect(settings({ variables: { MILLRACE_BOOTSTRAP: 'localhost:7420' } }).bootstrap).toBe(false)
    expect(settings({ file: { bootstrap: true } }).bootstrap).toBe(true)
  })

  it('are read in both spellings of a flag', () => {
    expect(settings({ args: ['--memory=1.5g', '--require-direct', '--log-format', 'json'] })).toMatchObject({
      memory: 1.5 * 2 ** 30,
      requireDirect: true,
      logFormat: 'json',
    })
    expect(settings({ args: ['--require-direct=false'], file: { requireDirect: true } }).requireDirect).toBe(false)
  })

  it.each([
    ['268435456', 2 ** 28],
    ['256m', 2 ** 28],
    ['256MiB', 2 ** 28],
    ['256 MB', 2 ** 28],
    ['1G', 2 ** 30],
  ])('know the size %s', (text, bytes) => {
    expect(settings({ variables: { MILLRACE_MEMORY: text } }).memory).toBe(bytes)
  })

  it('limit connections and the scrubber, and 0 is no limit, or no scrubbing', () => {
    expect(settings({})).toMatchObject({
      maxConnectionsPerAddress: 2_000,
      acceptsPerSecond: 1_000,
      scrubRate: undefined,
    })
    const args = ['--max-connections-per-address', '0', '--accepts-per-second=0', '--scrub-rate', '0']
    expect(settings({ args })).toMatchObject({ maxConnectionsPerAddress: 0, acceptsPerSecond: 0, scrubRate: 0 })
    expect(settings({ variables: { MILLRACE_SCRUB_RATE: '1m' } }).scrubRate).toBe(2 ** 20)
    expect(() => settings({ args: ['--accepts-per-second', '-1'] })).toThrow('a whole number from 0')
  })

  it('name the file and the help', () => {
    expect(readArguments(['--config', 'a.json', '-h'])).toMatchObject({ configPath: 'a.json', help: true })
  })

  it('have one flag, one variable and one line of help each', () => {
    expect(flagOf('requireDirect')).toBe('--require-direct')
    expect(variableOf('requireDirect')).toBe('MILLRACE_REQUIRE_DIRECT')
    const lines = describeSettings()
    for (const key of Object.keys(settings({}))) {
      expect(lines.filter((line) => line.startsWith(`  ${flagOf(key)} `))).toHaveLength(1)
    }
    for (const line of lines) expect(line.length).toBeLessThan(120)
  })
})

describe('a wrong setting is named', () => {
  const cases: readonly (readonly [string, Given, string])[] = [
    ['an unknown flag', { args: ['--prot', '1'] }, '--prot is unknown; did you mean --port?'],
    ['an unknown flag with a value', { args: ['--requir-direct=1'] }, 'did you mean --require-direct?'],
    ['a word that is no flag', { args: ['7420'] }, '7420 is not a flag'],
    ['a flag without its value', { args: ['--port'] }, '--port needs a value'],
    ['an unknown key', { file: { requiredirect: true } }, 'unknown key requiredirect; did you mean requireDirect?'],
    ['a key of all objects', { file: '{"__proto__": 1}' }, 'unknown key __proto__'],
    ['a key of all objects by name', { file: { toString: 1 } }, 'unknown key toString'],
    ['a mistyped variable', { variables: { MILLRACE_PROT: '1' } }, 'MILLRACE_PROT; did you mean MILLRACE_PORT?'],
    ['a file that is not JSON', { file: '{port: 1}' }, 'broker.json is not JSON'],
    ['a file without an object', { file: [1] }, 'does not hold a JSON object'],
    ['a port that is no number', { file: { port: 'x' } }, 'port in broker.json is "x"; it can be a whole number'],
    [
      'a port out of range',
      { args: ['--port', '65536'] },
      '--port is "65536"; it can be a whole number from 0 to 65535',
    ],
    ['a size that is none', { args: ['--memory', 'lots'] }, 'such as 512m or 2g'],
    ['too little memory', { args: ['--memory', '1m'] }, 'at least 64m'],
    ['a choice that is none', { args: ['--environment', 'epoll'] }, 'it can be auto, ring, portable'],
    ['a switch that is neither', { variables: { MILLRACE_INSECURE: 'maybe' } }, 'true or false'],
    ['an empty text', { args: ['--host='] }, 'a text that is not empty'],
    ['a cluster id that is none', { args: ['--cluster-id', 'abc'] }, '32 hexadecimal digits'],
  ]

  it.each(cases)('%s', (_name, given, message) => {
    expect(() => settings(given)).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }))
    expect(() => settings(given)).toThrow(message)
  })

  it('and variables of other programs are left alone', () => {
    expect(settings({ variables: { MILLRACE_TEST_DIRECTORY: '/tmp' } }).port).toBe(7420)
  })
})

describe('what was probably meant', () => {
  it('is the nearest by edits', () => {
    expect(editDistance('kitten', 'sitting')).toBe(3)
    expect(editDistance('', 'abc')).toBe(3)
    expect(nearestOf('Prot', ['host', 'port', 'data'])).toBe('port')
  })
})
