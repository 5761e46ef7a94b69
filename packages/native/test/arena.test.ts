// Memory of the addon: ranges, closing, and that JavaScript loses sight of what is gone.
import { constants, PerformanceObserver } from 'node:perf_hooks'
import { setTimeout as sleep } from 'node:timers/promises'
import { expect, it } from 'vitest'
import { Arena, checksum } from '#src/arena.js'
import { binding } from '#src/binding.js'
import { describeNative, HandDrivenRing, neverReadable } from './native-suite.js'

describeNative('arena', () => {
  it('is aligned, zeroed and of the size asked for', () => {
    const arena = new Arena(12_288, null)
    expect(arena.address % 4096).toBe(0)
    expect(arena.buffer.byteLength).toBe(12_288)
    expect(new Uint8Array(arena.buffer).every((byte) => byte === 0)).toBe(true)
    expect(arena.close()).toBe(true)
  })

  it('costs address space, not memory, until it is touched', () => {
    const before = process.memoryUsage.rss()
    const arena = new Arena(1024 * 1024 * 1024, null)
    expect(process.memoryUsage.rss() - before).toBeLessThan(16 * 1024 * 1024)
    arena.close()
  })

  it('gives the collector no reason to run, since collecting would free none of it', async () => {
    const major: number[] = []
    const observer = new PerformanceObserver((list) => {
      const kinds = list.getEntries().map((entry) => (Reflect.get(entry, 'detail') as { kind: number }).kind)
      major.push(...kinds.filter((kind) => kind === constants.NODE_PERFORMANCE_GC_MAJOR))
    })
    observer.observe({ entryTypes: ['gc'] })
    const arenas: Arena[] = []
    for (let i = 0; i < 24; i++) {
      arenas.push(new Arena(32 * 1024 * 1024, null))
      await sleep(5)
    }
    for (const arena of arenas) arena.close()
    observer.disconnect()
    // Every second or third would bring one about.
    expect(major.length).toBeLessThan(4)
  })

  it('takes its memory back from JavaScript when it closes', () => {
    const arena = new Arena(8192, null)
    const bytes = new Uint8Array(arena.buffer)
    const view = new DataView(arena.buffer)
    bytes.fill(7)
    expect(arena.close()).toBe(true)
    expect(arena.buffer.byteLength).toBe(0)
    expect(bytes.length).toBe(0)
    expect(bytes[0]).toBeUndefined()
    expect(() => view.getUint8(0)).toThrow(TypeError)
    expect(() => arena.close()).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' }))
    expect(() => checksum(arena, 0, 0, 0)).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' }))
  })

  it('refuses ranges outside of it, and overlapping copies', () => {
    const arena = new Arena(8192, null)
    const range = expect.objectContaining({ name: 'RangeError', code: 'ERR_MILLRACE_RANGE' })
    for (const [offset, length] of [
      [0, 8193],
      [8192, 1],
      [8193, 0],
      [1, 8192],
      [-1, 1],
      [0, -1],
      [0.5, 1],
      [Number.MAX_SAFE_INTEGER, Number.MAX_SAFE_INTEGER],
      [2 ** 60, 1],
    ] as const) {
      expect(() => checksum(arena, offset, length, 0)).toThrow(range)
    }
    expect(checksum(arena, 8192, 0, 5)).toBe(5)
    const copy = (to: number, from: number, length: number) =>
      binding().copyWithChecksum(arena.handle, to, arena.handle, from, length, 0)
    expect(() => copy(0, 100, 101)).toThrow(range)
    expect(() => copy(100, 0, 101)).toThrow(range)
    expect(() => copy(0, 8000, 193)).toThrow(range)
    expect(copy(0, 100, 100)).toBe(copy(4096, 0, 100))
    arena.close()
  })

  it('refuses sizes that cannot be', () => {
    for (const bytes of [0, 1, 4095, 2 ** 30 + 4096, -4096, Number.NaN]) {
      expect(() => new Arena(bytes, null)).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_RANGE' }))
    }
  })

  it('stays while its ring has an operation in flight, whatever other rings do', async () => {
    const busy = new HandDrivenRing()
    const idle = new HandDrivenRing()
    const arena = new Arena(4096, busy.ring)
    const other = new Arena(4096, idle.ring)
    const descriptor = neverReadable()
    busy.ring.read(descriptor, arena.address, 100, 0, -1, 1, 1)
    busy.ring.submit()
    expect(() => arena.close()).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_SYSTEM', errno: 16 }))
    expect(other.close()).toBe(true)
    expect(arena.buffer.byteLength).toBe(4096)
    expect(busy.ring.close(1000)).toBe(0)
    expect(arena.close()).toBe(true)
    expect(idle.ring.close(0)).toBe(0)
    binding().descriptorClose(descriptor)
  })
})
