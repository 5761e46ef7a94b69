// Every entry point of the addon against wrong, hostile and outdated arguments: typed errors, never a crash.
import { expect, it } from 'vitest'
import { binding } from '#src/binding.js'
import { describeNative, report } from './native-suite.js'

interface EntryPoint {
  readonly name: string
  call(...args: readonly unknown[]): unknown
}

/** Nothing here is a descriptor that is open, a handle that exists, or a path. */
const HOSTILE: readonly unknown[] = [
  undefined,
  null,
  true,
  -1,
  -0.5,
  1.5,
  Number.NaN,
  Number.POSITIVE_INFINITY,
  Number.NEGATIVE_INFINITY,
  2 ** 31,
  2 ** 32,
  2 ** 52 - 1,
  2 ** 53,
  2 ** 64,
  Number.MIN_VALUE,
  10n,
  Symbol('x'),
  '',
  'text',
  'with\0nul',
  'x'.repeat(5000),
  {},
  [],
  () => {},
  new Uint8Array(0),
  new Float64Array(4),
  new ArrayBuffer(8),
  { valueOf: () => 1 },
  new Proxy({}, {}),
]
const CODES = ['ERR_MILLRACE_ARGUMENT', 'ERR_MILLRACE_RANGE', 'ERR_MILLRACE_CLOSED']

/** The entry points without their types, so that they can be called wrongly. */
const entryPoints: readonly EntryPoint[] = report.ring.available
  ? Object.entries(binding()).map(([name, value]: [string, unknown]) => ({
      name,
      call: (...args) => {
        if (typeof value !== 'function') throw new Error(`${name} is no function`)
        return Reflect.apply(value, undefined, args)
      },
    }))
  : []
/** They take no arguments. */
const WITHOUT = ['kernelFeatures', 'layout']

function entryPoint(name: string): EntryPoint {
  const found = entryPoints.find((one) => one.name === name)
  if (found === undefined) throw new Error(`there is no entry point ${name}`)
  return found
}

/** The typed error, or the value: a negative errno is a fine answer too. */
function outcome(call: () => unknown): {
  readonly error?: { code?: unknown; message?: unknown }
  readonly value?: unknown
} {
  try {
    return { value: call() }
  } catch (error) {
    return { error: error as { code?: unknown; message?: unknown } }
  }
}

describeNative('entry points', () => {
  it('are those of the type', () => {
    expect(entryPoints.length).toBeGreaterThan(20)
    for (const value of Object.values(binding())) expect(typeof value).toBe('function')
  })

  it('answer hostile arguments in every place with a typed error', () => {
    let refused = 0
    for (const { name, call } of entryPoints.filter((one) => !WITHOUT.includes(one.name))) {
      for (const hostile of HOSTILE) {
        for (let place = 0; place < 6; place++) {
          // Plausible elsewhere: handle 0 is never given out, and descriptor 2^31 - 1 is not open.
          const args: unknown[] =
            name.startsWith('file') || name.startsWith('desc') ? [2 ** 31 - 1] : [0, 0, 0, 0, 0, 0]
          args[place] = hostile
          const { error, value } = outcome(() => call(...args))
          if (error !== undefined) {
            refused++
            expect(error.code, `${name}(${String(place)}: ${typeof hostile}) ${String(error.message)}`).toBeOneOf(CODES)
          } else if (name === 'ringOpen') expect(value).toMatchObject({ errno: 22 })
          else if (typeof value === 'number') expect(value).toBeLessThanOrEqual(0xffffffff)
        }
      }
    }
    expect(refused).toBeGreaterThan(1000)
  })

  it('name the function and the argument', () => {
    expect(() => entryPoint('ringEnter').call('x')).toThrow(/^ringEnter: argument 1 \(ring\) must be a number$/)
    expect(() => entryPoint('arenaOpen').call(4096, -1)).toThrow(
      /^arenaOpen: argument 2 \(ring\) must be an integer from 0 to \d+$/,
    )
  })

  it('take no arguments at all badly but safely', () => {
    for (const { name, call } of entryPoints.filter((one) => !WITHOUT.includes(one.name))) {
      const { error } = outcome(() => call())
      expect(error?.code, name).toBe('ERR_MILLRACE_ARGUMENT')
    }
  })

  it('do not work as constructors or with a foreign this', () => {
    const { checksumBytes } = binding()
    expect(Reflect.apply(checksumBytes, {}, [new Uint8Array([1, 2, 3]), 0])).toBe(0x55bc801d)
    expect(() => Reflect.construct(binding().ringEnter, [])).toThrow()
  })

  it('refuse handles that were closed or never given out', () => {
    const native = binding()
    const opened = native.ringOpen(8, 16, 0xffffffff)
    if (!('handle' in opened)) throw new Error('the ring was refused')
    const { handle } = opened
    const arena = native.arenaOpen(4096, handle)
    expect(native.ringClose(handle, 0)).toBe(0)
    expect(opened.ring.byteLength).toBe(0)
    expect(native.arenaClose(arena.handle)).toBe(true)
    const closed = expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' })
    for (const ring of [handle, 0, handle + 1, handle + 2 ** 20, 2 ** 52 - 1]) {
      expect(() => native.ringEnter(ring, 0, 0, 0)).toThrow(closed)
      expect(() => native.ringClose(ring, 0)).toThrow(closed)
      expect(() => native.ringStart(ring, () => {})).toThrow(closed)
      expect(() => native.ringReference(ring)).toThrow(closed)
      expect(() => native.ringRegisterBufferTable(ring, 1)).toThrow(closed)
      expect(() => native.ringRegisterBuffer(ring, 0, arena.handle)).toThrow(closed)
    }
    for (const name of [arena.handle, 0, arena.handle + 1]) {
      expect(() => native.arenaClose(name)).toThrow(closed)
      expect(() => native.checksum(name, 0, 0, 0)).toThrow(closed)
    }
    const next = native.arenaOpen(4096, 0)
    expect(next.handle).not.toBe(arena.handle)
    native.arenaClose(next.handle)
  })

  it('refuse to enter with flags whose memory JavaScript would not own', () => {
    const native = binding()
    const opened = native.ringOpen(8, 16, 0xffffffff)
    if (!('handle' in opened)) throw new Error('the ring was refused')
    for (const flags of [2, 8, 16, 64, 0xffffffff]) {
      expect(() => native.ringEnter(opened.handle, 0, 0, flags)).toThrow(RangeError)
    }
    expect(() => entryPoint('ringStart').call(opened.handle, 1)).toThrow(TypeError)
    native.ringStart(opened.handle, () => {})
    expect(() => native.ringStart(opened.handle, () => {})).toThrow(TypeError)
    expect(native.ringClose(opened.handle, 0)).toBe(0)
  })
})
