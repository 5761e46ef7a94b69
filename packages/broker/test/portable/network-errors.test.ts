// What dialling reports of the system's errors, and what stands in for the kernel's boot id.
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, describe, expect, it } from 'vitest'
import { NetworkError } from '#src/environment.js'
import { kernelBootId } from '#src/io/boot-id.js'
import { dialErrorFrom, networkErrorFrom } from '#src/io/portable/network-errors.js'

const folder = mkdtempSync(join(tmpdir(), 'millrace-boot-'))
afterAll(() => rmSync(folder, { recursive: true }))

function systemError(code: string): Error {
  return Object.assign(new Error(`connect ${code}`), { code })
}

describe('errors of a dial', () => {
  it.each([
    ['ECONNREFUSED', 'REFUSED'],
    ['ETIMEDOUT', 'TIMED_OUT'],
    ['EHOSTUNREACH', 'UNREACHABLE'],
    ['ENETUNREACH', 'UNREACHABLE'],
    ['EHOSTDOWN', 'UNREACHABLE'],
    ['ENETDOWN', 'UNREACHABLE'],
    ['EACCES', 'PERMISSION'],
    ['ENOTFOUND', 'BAD_ADDRESS'],
    ['EADDRNOTAVAIL', 'BAD_ADDRESS'],
    ['ECONNRESET', 'RESET'],
    ['EMFILE', 'OTHER'],
  ])('%s is %s', (code, expected) => {
    const cause = systemError(code)
    const error = dialErrorFrom(cause, '10.0.0.1:7420')
    expect(error).toBeInstanceOf(NetworkError)
    expect(error.code).toBe(expected)
    expect(error.message).toBe(`connecting to 10.0.0.1:7420 failed: connect ${code}`)
    expect(error.cause).toBe(cause)
  })

  it('a time-out of a connection that stood is a loss of it', () => {
    expect(networkErrorFrom(systemError('ETIMEDOUT'), 'receiving').code).toBe('RESET')
  })
})

describe('the boot id', () => {
  it('is what the kernel says', () => {
    const path = join(folder, 'boot_id')
    writeFileSync(path, '3d0c7c5a-8a3f-4d7e-9a52-4f3ad8b0b1c2\n')
    expect(kernelBootId(path)).toBe('3d0c7c5a-8a3f-4d7e-9a52-4f3ad8b0b1c2')
  })

  it('is a new one each time where nobody says', () => {
    const missing = join(folder, 'missing')
    const empty = join(folder, 'empty')
    writeFileSync(empty, '')
    const ids = [kernelBootId(missing), kernelBootId(missing), kernelBootId(empty)]
    expect(new Set(ids).size).toBe(3)
    for (const id of ids) expect(id).toMatch(/^[0-9a-f-]{36}$/)
  })
})
