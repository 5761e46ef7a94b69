// The table of errors: every code has its row, its advice, and a test that produces it.
import { readdirSync, readFileSync } from 'node:fs'
import { ConnectionError, ERROR_CODES, MillraceError } from '@millrace/client'
import { ERROR_TABLE, ProtocolError } from '@millrace/protocol'
import { describe, expect, test } from 'vitest'
import { errorOfCode, toMillraceError } from '#src/errors.js'

describe('the table', () => {
  test('holds every error of the protocol and those of the client', () => {
    for (const name of Object.keys(ERROR_TABLE)) expect([...ERROR_CODES.keys()]).toContain(`ERR_MILLRACE_${name}`)
    for (const [code, { advice }] of ERROR_CODES) {
      expect(code).toMatch(/^ERR_MILLRACE_[A-Z_]+$/)
      expect(advice).toMatch(/^[A-Z].*\.$/)
    }
  })

  test('every code of the client itself is produced by a test', () => {
    const folder = new URL('.', import.meta.url)
    const tests = readdirSync(folder, { recursive: true, encoding: 'utf8' })
      .filter((file) => file.endsWith('.test.ts') && file !== 'errors.test.ts')
      .map((file) => readFileSync(new URL(file, folder), 'utf8'))
      .join('\n')
    const own = [...ERROR_CODES.keys()].filter(
      (code) => !Object.hasOwn(ERROR_TABLE, code.slice('ERR_MILLRACE_'.length)),
    )
    expect(own.length).toBeGreaterThan(10)
    expect(own.filter((code) => !tests.includes(`'${code}'`))).toEqual([])
  })

  test.each(Object.entries(ERROR_TABLE))('a broker that answers %s', (name, row) => {
    const error = errorOfCode(row.code, 'it says so', { topic: 't', partition: 3 })
    expect(error).toMatchObject({
      code: `ERR_MILLRACE_${name}`,
      retriable: row.retriable,
      detail: 'it says so',
      message: `it says so. ${row.advice}`,
      topic: 't',
      partition: 3,
      fatal: false,
    })
  })

  test('a code this version does not know', () => {
    expect(errorOfCode(9_999, 'new')).toMatchObject({
      code: 'ERR_MILLRACE_INTERNAL',
      detail: 'the broker reported error 9999: new',
    })
  })
})

describe('MillraceError', () => {
  test('is told by a brand, not by its class', () => {
    const error = new MillraceError('ERR_MILLRACE_CLOSED', 'x')
    expect(MillraceError.is(error)).toBe(true)
    expect(MillraceError.is(Object.assign(new Error('y'), { [Symbol.for('millrace.error')]: true }))).toBe(true)
    for (const other of [new Error('x'), null, undefined, 'ERR_MILLRACE_CLOSED', {}])
      expect(MillraceError.is(other)).toBe(false)
    expect(Object.keys(error)).not.toContain('Symbol(millrace.error)')
  })

  test('wraps what others throw, with its cause', () => {
    const cause = new ProtocolError('CORRUPT_FRAME', 'odd')
    expect(toMillraceError(cause)).toMatchObject({ code: 'ERR_MILLRACE_CORRUPT_FRAME', cause })
    const bug = new TypeError('no function')
    expect(toMillraceError(bug)).toMatchObject({ code: 'ERR_MILLRACE_INTERNAL', cause: bug })
    expect(toMillraceError('text')).toMatchObject({ code: 'ERR_MILLRACE_INTERNAL' })
    const own = new ConnectionError('gone')
    expect(toMillraceError(own)).toBe(own)
  })
})
