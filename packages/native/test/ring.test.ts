// Rings by hand: user data, a full queue, an overflowing one, files, cancelling, closing, and older kernels' flags.
import { constants, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, expect, it } from 'vitest'
import { Arena } from '#src/arena.js'
import { binding } from '#src/binding.js'
import { errnoName, SystemError } from '#src/errors.js'
import { closeDescriptor, openFile } from '#src/file.js'
import * as layout from '#src/layout.js'
import { NO_SLOT } from '#src/ring.js'
import { describeNative, HandDrivenRing, neverReadable } from './native-suite.js'

const folder = mkdtempSync(join(tmpdir(), 'millrace-native-'))
afterAll(() => rmSync(folder, { recursive: true }))

describeNative('ring', () => {
  it('gives user data back, in both halves and at their limits', async () => {
    const { ring, ...driven } = withRing()
    const pairs = [
      [0, 0],
      [1, 0xffffffff],
      [0xfffffffe, 1],
      [0x80000000, 0x80000001],
    ] as const
    for (const [slot, generation] of pairs) ring.nop(slot, generation)
    const completions = await driven.collect(4)
    expect(completions.map(({ slot, generation }) => [slot, generation])).toEqual(pairs)
    expect(completions.every(({ result }) => result === 0)).toBe(true)
    expect(ring.close(0)).toBe(0)
  })

  it('goes around its queues many times', async () => {
    const { ring, ...driven } = withRing({ entries: 8, completions: 16 })
    for (let round = 0; round < 100; round++) {
      for (let i = 0; i < 7; i++) ring.nop(i, round)
      const completions = await driven.collect(7)
      expect(completions.map(({ slot }) => slot)).toEqual([0, 1, 2, 3, 4, 5, 6])
      expect(completions.every(({ generation }) => generation === round)).toBe(true)
    }
    expect(ring.close(0)).toBe(0)
  })

  it('submits by itself when its queue is full', async () => {
    const { ring, ...driven } = withRing({ entries: 8, completions: 256 })
    for (let i = 0; i < 100; i++) ring.nop(i, 1)
    expect((await driven.collect(100)).map(({ slot }) => slot)).toEqual(Array.from({ length: 100 }, (_, i) => i))
    expect(ring.close(0)).toBe(0)
  })

  it('loses nothing when completions overflow', async () => {
    const { ring, ...driven } = withRing({ entries: 8, completions: 8 })
    for (let i = 0; i < 200; i++) ring.nop(i, 1)
    const slots = (await driven.collect(200)).map(({ slot }) => slot)
    expect(new Set(slots).size).toBe(200)
    expect(ring.close(0)).toBe(0)
  })

  it('keeps submissions in order when the kernel takes none for a while', async () => {
    const { ring, ...driven } = withRing({ entries: 8, completions: 256 })
    const native = binding()
    const enter = native.ringEnter
    try {
      native.ringEnter = () => -11
      for (let i = 0; i < 300; i++) ring.nop(i, 1)
      expect(ring.submit()).toBe(false)
      expect(ring.unsubmitted).toBe(300)
    } finally {
      native.ringEnter = enter
    }
    for (let i = 300; i < 310; i++) ring.nop(i, 1)
    expect((await driven.collect(310)).map(({ slot }) => slot)).toEqual(Array.from({ length: 310 }, (_, i) => i))
    expect(ring.unsubmitted).toBe(0)
    expect(ring.close(0)).toBe(0)
  })

  it('enters again when interrupted, and reports what it cannot handle', async () => {
    const { ring, ...driven } = withRing()
    const native = binding()
    const enter = native.ringEnter
    let calls = 0
    try {
      native.ringEnter = (...args) => (++calls < 3 ? -4 : enter(...args))
      ring.nop(1, 1)
      expect(ring.submit()).toBe(true)
      expect(calls).toBe(3)
      native.ringEnter = () => -17
      ring.nop(2, 1)
      expect(() => ring.submit()).toThrow(expect.objectContaining({ name: 'SystemError', code: 'EEXIST' }))
    } finally {
      native.ringEnter = enter
    }
    expect(await driven.collect(2)).toHaveLength(2)
    expect(ring.close(0)).toBe(0)
  })

  it('hands the rest out when a sink throws', () => {
    const { ring } = withRing()
    for (let i = 0; i < 5; i++) ring.nop(i, 1)
    ring.submit(5)
    const seen: number[] = []
    const sink = {
      complete(slot: number) {
        seen.push(slot)
        if (slot === 2) throw new Error('a bug of the caller')
      },
    }
    expect(() => ring.reap(sink)).toThrow('a bug of the caller')
    expect(ring.reap(sink)).toBe(2)
    expect(seen).toEqual([0, 1, 2, 3, 4])
    expect(ring.close(0)).toBe(0)
  })

  it('stops when its sink closes it', () => {
    const { ring } = withRing()
    for (let i = 0; i < 5; i++) ring.nop(i, 1)
    ring.submit(5)
    const seen: number[] = []
    ring.reap({
      complete(slot: number) {
        seen.push(slot)
        expect(ring.close(0)).toBe(0)
      },
    })
    expect(seen).toEqual([0])
    expect(() => ring.submit()).toThrow()
    expect(() => ring.close(0)).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' }))
  })

  it('works with the flags of older kernels', async () => {
    const { SETUP_SINGLE_ISSUER, SETUP_DEFER_TASKRUN, SETUP_NO_SQ_ARRAY, SETUP_COOP_TASKRUN } = layout
    for (const forbidden of [
      SETUP_NO_SQ_ARRAY,
      SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN,
      SETUP_SINGLE_ISSUER | SETUP_DEFER_TASKRUN | SETUP_COOP_TASKRUN,
    ]) {
      const { ring, ...driven } = withRing({ entries: 16, completions: 64, allowedFlags: ~forbidden >>> 0 })
      expect(ring.flags & forbidden).toBe(0)
      for (let i = 0; i < 50; i++) ring.nop(i, 9)
      expect((await driven.collect(50)).map(({ slot }) => slot)).toEqual(Array.from({ length: 50 }, (_, i) => i))
      expect(ring.close(0)).toBe(0)
    }
  })

  it('writes, reads, allocates and flushes files, with registered memory and without', async () => {
    const path = join(folder, 'file')
    writeFileSync(path, '')
    for (const registered of [true, false]) {
      const { ring, ...driven } = withRing()
      const arena = new Arena(65_536, ring)
      if (registered) {
        expect(ring.registerBufferTable(4)).toBe(0)
        expect(ring.registerBuffer(2, arena.handle)).toBe(1)
      }
      const bufferIndex = registered ? 2 : -1
      const descriptor = openFile(path, constants.O_RDWR | constants.O_TRUNC)
      const bytes = new Uint8Array(arena.buffer)
      bytes.fill(registered ? 0x41 : 0x42, 0, 8192)
      ring.allocate(descriptor, 0, 16_384, 1, 1)
      expect(await driven.collect(1)).toMatchObject([{ result: 0 }])
      // Above 4 GiB, where a position no longer fits one word.
      const far = 5 * 2 ** 30
      ring.write(descriptor, arena.address, 8192, far, bufferIndex, 2, 1)
      expect(await driven.collect(1)).toMatchObject([{ result: 8192 }])
      ring.sync(descriptor, false, 3, 1)
      ring.sync(descriptor, true, 4, 1)
      expect((await driven.collect(2)).map(({ result }) => result)).toEqual([0, 0])
      ring.read(descriptor, arena.address + 16_384, 8192, far, bufferIndex, 5, 1)
      expect(await driven.collect(1)).toMatchObject([{ result: 8192 }])
      expect(Buffer.compare(bytes.subarray(0, 8192), bytes.subarray(16_384, 24_576))).toBe(0)
      ring.read(descriptor, arena.address, 4096, far + 8192, bufferIndex, 6, 1)
      expect(await driven.collect(1)).toMatchObject([{ result: 0 }])
      closeDescriptor(descriptor)
      expect(ring.close(0)).toBe(0)
      expect(arena.close()).toBe(true)
    }
    writeFileSync(path, 'short')
    expect(readFileSync(path, 'utf8')).toBe('short')
  })

  it('answers impossible operations with errors, not exceptions', async () => {
    const { ring, ...driven } = withRing()
    const arena = new Arena(4096, ring)
    ring.write(1_000_000, arena.address, 100, 0, -1, 1, 1)
    ring.read(0x7fffffff, arena.address, 100, 0, -1, 2, 1)
    ring.read(1_000_000, arena.address, 100, 0, 3, 3, 1)
    ring.sync(-1, false, 4, 1)
    const names = (await driven.collect(4)).map(({ result }) => errnoName(result))
    expect(names.every((name) => ['EBADF', 'EFAULT'].includes(name))).toBe(true)
    expect(ring.close(0)).toBe(0)
    arena.close()
  })

  it('cancels the operation named, and only that', async () => {
    const { ring, ...driven } = withRing()
    const arena = new Arena(4096, ring)
    const descriptor = neverReadable()
    const far = 0xfedcba98
    ring.read(descriptor, arena.address, 1, 0, -1, 7, far)
    ring.read(descriptor, arena.address, 1, 0, -1, 7, far - 1)
    ring.cancel(7, far)
    const completions = (await driven.collect(2)).filter(({ slot }) => slot !== NO_SLOT)
    expect(completions.map(({ slot, generation, result }) => [slot, generation, errnoName(result)])).toEqual([
      [7, far, 'ECANCELED'],
    ])
    ring.cancelAll()
    const rest = (await driven.collect(2)).filter(({ slot }) => slot !== NO_SLOT)
    expect(rest.map(({ generation, result }) => [generation, errnoName(result)])).toEqual([[far - 1, 'ECANCELED']])
    expect(ring.close(0)).toBe(0)
    arena.close()
    closeDescriptor(descriptor)
  })

  it('drains what is in flight when it closes, and forgets what was never submitted', () => {
    const { ring } = withRing()
    const arena = new Arena(4096, ring)
    const descriptor = neverReadable()
    for (let i = 0; i < 10; i++) ring.read(descriptor, arena.address, 1, 0, -1, i, 1)
    ring.submit()
    for (let i = 0; i < 10; i++) ring.read(descriptor, arena.address, 1, 0, -1, i, 1)
    const begun = performance.now()
    expect(ring.close(2000)).toBe(0)
    expect(performance.now() - begun).toBeLessThan(1000)
    expect(arena.close()).toBe(true)
    closeDescriptor(descriptor)
  })

  it('refuses memory that is not registered or not there', () => {
    const { ring } = withRing()
    const arena = new Arena(4096, ring)
    expect(errnoName(ring.registerBuffer(0, arena.handle))).toBe('ENXIO')
    expect(ring.registerBufferTable(1)).toBe(0)
    expect(ring.registerBuffer(1, arena.handle)).toBeLessThan(0)
    expect(() => ring.registerBuffer(0, 12_345)).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' }))
    expect(() => ring.registerBufferRing(0, 512, arena.handle, 0)).toThrow(RangeError)
    expect(ring.close(0)).toBe(0)
    arena.close()
  })

  it('says which call the kernel refused', () => {
    expect(() => withRing({ entries: 0 })).toThrow(SystemError)
    expect(() => withRing({ entries: 0 })).toThrow(/EINVAL.*io_uring_setup/)
  })
})

function withRing(options: ConstructorParameters<typeof HandDrivenRing>[0] = {}) {
  const driven = new HandDrivenRing(options)
  return { ring: driven.ring, collect: (count: number) => driven.collect(count) }
}
