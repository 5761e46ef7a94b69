// Append memory and the ranges a frame remembers, against simple models.
import { describe, expect, it } from 'vitest'
import { AppendMemory, type Extent } from '#src/memory/append-memory.js'
import { ByteRanges } from '#src/memory/byte-ranges.js'
import { ExtentSource } from '#src/memory/extent-source.js'
import { CrashMemory } from '../../sim/crash/crash-environment.js'
import { SeededRandom } from '../../sim/random.js'

const KIB = 1024

describe('byte ranges', () => {
  it('hold what was added and nothing else', () => {
    const random = new SeededRandom('ranges')
    for (let round = 0; round < 50; round++) {
      const ranges = new ByteRanges()
      const bytes = new Uint8Array(64)
      for (let i = 0; i < 20; i++) {
        const start = random.integer(0, 60)
        const end = random.integer(start + 1, 64)
        ranges.add(start, end)
        bytes.fill(1, start, end)
        for (let tries = 0; tries < 20; tries++) {
          const from = random.integer(0, 62)
          const to = random.integer(from + 1, 64)
          expect(ranges.has(from, to)).toBe(bytes.subarray(from, to).every((byte) => byte === 1))
        }
      }
    }
  })
})

describe('append memory', () => {
  it('keeps flushed groups while there is room, and gives up the oldest first', () => {
    const memory = new CrashMemory(1024 * KIB)
    const appends = new AppendMemory(memory, 256 * KIB)
    const forgotten: number[] = []
    for (let i = 0; i < 12; i++) {
      const extent = appends.allocate(16 * KIB)!
      appends.retain({ extent, forget: () => forgotten.push(i) })
    }
    // Half of the limit serves readers.
    expect(appends.usedBytes).toBe(128 * KIB)
    expect(forgotten).toEqual([0, 1, 2, 3])
    const held: Extent[] = []
    for (let extent = appends.allocate(16 * KIB); extent !== null; extent = appends.allocate(16 * KIB))
      held.push(extent)
    expect(held).toHaveLength(16)
    expect(forgotten).toEqual([...Array(12).keys()])
    let released = 0
    appends.onReleased = () => released++
    for (const extent of held) appends.drop(extent)
    expect(released).toBe(16)
    expect(memory.usedBytes).toBe(0)
  })

  it('does not free what a reader holds', () => {
    const memory = new CrashMemory(1024 * KIB)
    const appends = new AppendMemory(memory, 64 * KIB)
    const extent = appends.allocate(16 * KIB)!
    appends.hold(extent)
    appends.retain({ extent, forget: () => {} })
    while (appends.forgetOldest()) expect(memory.usedBytes).toBeGreaterThan(0)
    expect(memory.usedBytes).toBe(16 * KIB)
    appends.drop(extent)
    expect(memory.usedBytes).toBe(0)
    expect(() => appends.drop(extent)).toThrow(/once/)
  })

  it('asks others when the environment has none', () => {
    const memory = new CrashMemory(32 * KIB)
    const blocks = [memory.allocate(16 * KIB)!, memory.allocate(16 * KIB)!]
    const appends = new AppendMemory(memory, 64 * KIB)
    expect(appends.allocate(16 * KIB)).toBeNull()
    appends.reclaim = () => {
      const block = blocks.pop()
      if (block !== undefined) memory.release(block)
      return block !== undefined
    }
    expect(appends.allocate(16 * KIB)).not.toBeNull()
    expect(blocks).toHaveLength(1)
  })
})

describe('extents of one log', () => {
  it('grow while it is busy and shrink while it is quiet', () => {
    const memory = new CrashMemory(8192 * KIB)
    const appends = new AppendMemory(memory, 4096 * KIB)
    const source = new ExtentSource(appends, 1024 * KIB)
    const sizes: number[] = []
    for (let i = 0; i < 40; i++) {
      const extent = source.take(12 * KIB)!
      extent.usedBytes += 12 * KIB
      sizes.push(extent.block.byteLength)
      appends.retain({ extent, forget: () => {} })
    }
    expect(sizes[0]).toBe(16 * KIB)
    expect(sizes.at(-1)).toBeGreaterThanOrEqual(256 * KIB)
    for (let i = 0; i < 20; i++) {
      source.idle()
      const extent = source.take(4 * KIB)!
      extent.usedBytes += 4 * KIB
      sizes.push(extent.block.byteLength)
      appends.drop(extent)
    }
    expect(sizes.at(-1)).toBe(8 * KIB)
    source.idle()
    while (appends.forgetOldest()) expect(appends.usedBytes).toBeGreaterThanOrEqual(0)
    expect(memory.usedBytes).toBe(0)
  })

  it('are found once they were promised', () => {
    const memory = new CrashMemory(96 * KIB)
    const appends = new AppendMemory(memory, 96 * KIB)
    const source = new ExtentSource(appends, 64 * KIB)
    expect(source.ensure(40 * KIB, 0)).toBe(true)
    const rest = memory.allocate(56 * KIB)
    expect(rest).not.toBeNull()
    const extent = source.take(40 * KIB)!
    expect(extent.block.byteLength).toBe(40 * KIB)
    extent.usedBytes = 40 * KIB
    expect(source.ensure(40 * KIB, 0)).toBe(false)
  })
})
