// The logger writes one line an event whatever it is given.
import { expect, it } from 'vitest'
import { createConsoleLogger, type LogFormat, type LogLevel } from '#src/io/console-logger.js'

function linesOf(
  format: LogFormat,
  level: LogLevel,
): { lines: string[]; logger: ReturnType<typeof createConsoleLogger> } {
  const lines: string[] = []
  return { lines, logger: createConsoleLogger({ format, level, write: (line) => lines.push(line) }) }
}

it('leaves out what is below its level', () => {
  const { lines, logger } = linesOf('json', 'warn')
  logger.debug({}, 'a')
  logger.info({}, 'b')
  logger.warn({}, 'c')
  logger.error({}, 'd')
  expect(lines.map((line) => JSON.parse(line).message)).toEqual(['c', 'd'])
  const silent = linesOf('text', 'silent')
  silent.logger.error({}, 'x')
  expect(silent.lines).toEqual([])
})

it('writes fields, errors with their causes and what JSON cannot carry', () => {
  const loop: Record<string, unknown> = {}
  loop.self = loop
  const fields = {
    port: 7420,
    offset: 2n ** 60n,
    nested: { big: 5n },
    loop,
    nothing: undefined,
    cause: new Error('outer', { cause: new Error('inner') }),
  }
  const json = linesOf('json', 'debug')
  json.logger.error(fields, 'it\nbroke')
  expect(json.lines[0]!.trimEnd()).not.toContain('\n')
  const value = JSON.parse(json.lines[0]!)
  expect(value).toMatchObject({
    level: 'error',
    message: 'it\nbroke',
    port: 7420,
    offset: String(2n ** 60n),
    nested: { big: '5' },
  })
  expect(value.cause.message).toBe('Error: outer: Error: inner')
  const text = linesOf('text', 'debug')
  text.logger.info(fields, 'listening')
  expect(text.lines[0]!).toMatch(/^\S+ info {2}listening port=7420 .*cause="Error: outer: Error: inner"\n$/)
})
