// Contract of Memory: budget, ownership of blocks, checksums.
import { describe, expect, it } from 'vitest'
import type { Block } from '#src/environment.js'
import type { ContractSideFactory } from './contract-side.js'
import { MEMORY_BYTES, mustAllocate, pattern, sameBytes, useSide } from './fixture.js'

export function describeMemoryContract(factory: ContractSideFactory): void {
  describe('memory', () => {
    const side = useSide(factory)

    it('gives blocks of at least the size asked for, in multiples of 4,096', () => {
      const { environment } = side()
      const blocks: Block[] = []
      for (const wanted of [1, 4095, 4096, 4097, 65_536, 100_000, 1_048_576]) {
        const block = mustAllocate(environment, wanted)
        blocks.push(block)
        expect(block.byteLength).toBeGreaterThanOrEqual(wanted)
        expect(block.byteLength % 4096).toBe(0)
        expect(block.bytes.byteLength).toBe(block.byteLength)
        expect(block.view.byteLength).toBe(block.byteLength)
        expect(block.view.buffer).toBe(block.bytes.buffer)
        expect(block.view.byteOffset).toBe(block.bytes.byteOffset)
        block.bytes[5] = 77
        expect(block.view.getUint8(5)).toBe(77)
        expect(block.bytes).toBe(block.bytes)
      }
      expect(environment.memory.usedBytes).toBe(blocks.reduce((sum, block) => sum + block.byteLength, 0))
      for (const block of blocks) environment.memory.release(block)
      expect(environment.memory.usedBytes).toBe(0)
    })

    it('keeps to its budget and gives again what came back', () => {
      const { memory } = side().environment
      expect(memory.budgetBytes).toBe(MEMORY_BYTES)
      const blocks: Block[] = []
      for (let block = memory.allocate(1_048_576); block !== null; block = memory.allocate(1_048_576))
        blocks.push(block)
      expect(memory.usedBytes).toBeLessThanOrEqual(memory.budgetBytes)
      expect(blocks.length).toBeGreaterThanOrEqual(60)
      expect(memory.allocate(1_048_576)).toBeNull()
      memory.release(blocks.pop()!)
      const again = memory.allocate(1_048_576)
      expect(again).not.toBeNull()
      blocks.push(again!)
      for (const block of blocks) memory.release(block)
      expect(memory.usedBytes).toBe(0)
      expect(memory.allocate(MEMORY_BYTES * 2)).toBeNull()
    })

    it('serves other sizes from what came back', () => {
      const { memory } = side().environment
      const small = Array.from({ length: 1024 }, () => mustAllocate(side().environment, 16_384))
      for (const block of small) memory.release(block)
      const large = Array.from({ length: 40 }, () => mustAllocate(side().environment, 1_048_576))
      for (const block of large) memory.release(block)
      expect(memory.usedBytes).toBe(0)
    })

    it('never gives the same bytes twice', () => {
      const { environment } = side()
      const live = new Map<Block, number>()
      for (let i = 0; i < 600; i++) {
        if (i % 3 === 2) {
          const [block, mark] = [...live][(i * 7) % live.size]!
          expect(block.bytes.every((byte) => byte === mark)).toBe(true)
          environment.memory.release(block)
          live.delete(block)
        } else {
          const block = mustAllocate(environment, 4096 << (i % 5))
          block.bytes.fill(i % 251)
          live.set(block, i % 251)
        }
      }
      for (const [block, mark] of live) {
        expect(block.bytes.every((byte) => byte === mark)).toBe(true)
        environment.memory.release(block)
      }
    })

    it('refuses a second release and a foreign block', async () => {
      const { memory } = side().environment
      const block = mustAllocate(side().environment, 4096)
      memory.release(block)
      expect(() => memory.release(block)).toThrow()
      const bytes = new Uint8Array(4096)
      const foreign = { bytes, view: new DataView(bytes.buffer), byteLength: 4096 }
      expect(() => memory.release(foreign)).toThrow()
      expect(memory.usedBytes).toBe(0)
    })

    it('computes CRC-32 (IEEE) against published values', () => {
      const { memory } = side().environment
      const block = mustAllocate(side().environment, 4096)
      const at = (text: string, offset: number) => {
        block.bytes.set(new TextEncoder().encode(text), offset)
        return memory.checksum(block, offset, text.length, 0)
      }
      expect(at('123456789', 0).toString(16)).toBe('cbf43926')
      expect(at('123456789', 1).toString(16)).toBe('cbf43926')
      expect(at('123456789', 4087).toString(16)).toBe('cbf43926')
      expect(at('The quick brown fox jumps over the lazy dog', 3).toString(16)).toBe('414fa339')
      expect(at('a', 7).toString(16)).toBe('e8b7be43')
      expect(memory.checksum(block, 0, 0, 0)).toBe(0)
      memory.release(block)
    })

    it('continues a checksum at any cut', () => {
      const { memory } = side().environment
      const block = mustAllocate(side().environment, 65_536)
      block.bytes.set(pattern(65_536, 1))
      for (const [offset, length] of [
        [0, 65_536],
        [1, 65_535],
        [13, 4099],
        [4095, 2],
        [63, 1],
        [100, 257],
      ] as const) {
        const whole = memory.checksum(block, offset, length, 0)
        for (const cut of [0, 1, 7, 15, 16, 63, 64, 65, length - 1].filter((cut) => cut >= 0 && cut <= length)) {
          const first = memory.checksum(block, offset, cut, 0)
          expect(memory.checksum(block, offset + cut, length - cut, first)).toBe(whole)
        }
      }
      memory.release(block)
    })

    it('copies and computes the checksum of what it copied, and nothing else', () => {
      const { memory } = side().environment
      const source = mustAllocate(side().environment, 65_536)
      const target = mustAllocate(side().environment, 65_536)
      source.bytes.set(pattern(65_536, 2))
      for (const [to, from, length] of [
        [0, 0, 65_536],
        [3, 1, 4097],
        [4096, 17, 1],
        [5, 9, 0],
        [1, 64, 15],
        [7, 8, 1000],
      ] as const) {
        target.bytes.fill(0xee)
        const seed = memory.checksum(source, 0, 10, 0)
        const sum = memory.copyWithChecksum(target, to, source, from, length, seed)
        expect(sum).toBe(memory.checksum(source, from, length, seed))
        expect(sameBytes(target.bytes.subarray(to, to + length), source.bytes.subarray(from, from + length))).toBe(true)
        expect(target.bytes.subarray(0, to).every((byte) => byte === 0xee)).toBe(true)
        expect(target.bytes.subarray(to + length).every((byte) => byte === 0xee)).toBe(true)
      }
      memory.release(source)
      memory.release(target)
    })
  })
}
