// Names of errors: the usual one where a number has two.
import { expect, it } from 'vitest'
import { checkAnswer, errnoName, SystemError } from '#src/errors.js'

it('names errors as the manual does', () => {
  const names = [1, 2, 4, 5, 11, 12, 22, 28, 95, 98, 104, 105, 125].map(errnoName)
  expect(names).toEqual([
    'EPERM',
    'ENOENT',
    'EINTR',
    'EIO',
    'EAGAIN',
    'ENOMEM',
    'EINVAL',
    'ENOSPC',
    'ENOTSUP',
    'EADDRINUSE',
    'ECONNRESET',
    'ENOBUFS',
    'ECANCELED',
  ])
  expect(errnoName(-28)).toBe('ENOSPC')
  expect(errnoName(99_999)).toBe('errno 99999')
})

it('turns negative answers into errors with code, errno and call', () => {
  expect(checkAnswer('read', 0)).toBe(0)
  expect(checkAnswer('read', 42)).toBe(42)
  expect(() => checkAnswer('read', -5)).toThrow(SystemError)
  expect(() => checkAnswer('read', -5)).toThrow(
    expect.objectContaining({ code: 'EIO', errno: 5, syscall: 'read', message: 'EIO: read' }),
  )
})
