// Contract of Disk, Volume and DiskFile, as far as it can be seen without a crash.
import { describe, expect, it } from 'vitest'
import { BLOCK_BYTES, type Block, DiskError, type DiskErrorCode, type DiskFile, type Volume } from '#src/environment.js'
import type { ContractSideFactory } from './contract-side.js'
import { mustAllocate, pattern, sameBytes, useSide } from './fixture.js'

async function expectCode(code: DiskErrorCode, work: () => Promise<unknown>): Promise<DiskError> {
  const outcome = await work().then(
    () => null,
    (cause: unknown) => cause,
  )
  expect(outcome).toBeInstanceOf(DiskError)
  const error = outcome as DiskError
  expect(error.code).toBe(code)
  expect(error.message.length).toBeGreaterThan(10)
  return error
}

export function describeDiskContract(factory: ContractSideFactory): void {
  describe('disk', () => {
    const side = useSide(factory)
    const openVolume = (directory = side().newDirectory()) =>
      side().environment.disk.openVolume(directory, { requireDirect: false })

    async function writeBytes(file: DiskFile, position: number, bytes: Uint8Array): Promise<void> {
      const block = mustAllocate(side().environment, bytes.byteLength)
      block.bytes.set(bytes)
      await file.write(position, block, 0, bytes.byteLength)
      side().environment.memory.release(block)
    }

    async function readBytes(file: DiskFile, position: number, length: number): Promise<Uint8Array> {
      const block = mustAllocate(side().environment, length)
      const count = await file.read(position, block, 0, length)
      const bytes = block.bytes.slice(0, count)
      side().environment.memory.release(block)
      return bytes
    }

    it('makes a volume with its parents and says what it is', async () => {
      const volume = await openVolume(`${side().newDirectory()}/deep/er`)
      expect(await volume.list()).toEqual([])
      expect(['device', 'syncfs', 'files']).toContain(volume.flushMethod)
      if (!volume.direct) expect(volume.note).toMatch(/\w+/)
      const { freeBytes, totalBytes } = await volume.space()
      expect(freeBytes).toBeGreaterThan(0)
      expect(totalBytes).toBeGreaterThanOrEqual(freeBytes)
      await volume.close()
    })

    it('lists what was created and not what was removed, nor files of its own', async () => {
      const volume = await openVolume()
      const a = await volume.open('a', { create: true })
      await volume.open('b', { create: true })
      await writeBytes(a, 0, pattern(8192, 1))
      await volume.writeSmall('c', pattern(5, 1))
      await volume.syncDirectory()
      const names = (await volume.list()).map(({ name, byteLength }) => `${name}:${byteLength}`)
      expect(names.sort()).toEqual(['a:8192', 'b:0', 'c:5'])
      await volume.remove('b')
      expect((await volume.list()).map(({ name }) => name).sort()).toEqual(['a', 'c'])
      await volume.close()
    })

    it('names what is missing, locked and closed', async () => {
      const directory = side().newDirectory()
      const volume = await openVolume(directory)
      await expectCode('NOT_FOUND', () => volume.open('nothing'))
      await expectCode('NOT_FOUND', () => volume.remove('nothing'))
      expect(await volume.readSmall('nothing')).toBeNull()
      const locked = await expectCode('LOCKED', () => openVolume(directory))
      expect(locked.message).toContain(directory)
      const file = await volume.open('file', { create: true })
      await file.close()
      await file.close()
      const block = mustAllocate(side().environment, BLOCK_BYTES)
      await expectCode('CLOSED', async () => file.write(0, block, 0, BLOCK_BYTES))
      await expectCode('CLOSED', async () => file.read(0, block, 0, BLOCK_BYTES))
      await expectCode('CLOSED', async () => file.sync())
      side().environment.memory.release(block)
      await volume.close()
      await volume.close()
      await expectCode('CLOSED', async () => volume.list())
      await expectCode('CLOSED', async () => volume.open('file'))
      await (await openVolume(directory)).close()
    })

    it('refuses a volume without direct I/O when that is required', async () => {
      const probe = await openVolume()
      await probe.close()
      const strict = () => side().environment.disk.openVolume(side().newDirectory(), { requireDirect: true })
      if (probe.direct) await (await strict()).close()
      else await expectCode('NO_DIRECT_IO', strict)
    })

    it('reads back what was written, at any position and after reopening', async () => {
      const directory = side().newDirectory()
      let volume = await openVolume(directory)
      let file = await volume.open('log', { create: true })
      const parts: [number, Uint8Array][] = [
        [0, pattern(4096, 1)],
        [65_536, pattern(262_144, 2)],
        [4096, pattern(12_288, 3)],
        [1_048_576, pattern(4096, 4)],
      ]
      for (const [position, bytes] of parts) await writeBytes(file, position, bytes)
      await file.sync()
      expect(await file.size()).toBe(1_052_672)
      for (const [position, bytes] of parts) {
        expect(sameBytes(await readBytes(file, position, bytes.byteLength), bytes)).toBe(true)
      }
      await volume.close()
      volume = await openVolume(directory)
      file = await volume.open('log')
      for (const [position, bytes] of parts) {
        expect(sameBytes(await readBytes(file, position, bytes.byteLength), bytes)).toBe(true)
      }
      expect((await readBytes(file, 16_384, 4096)).every((byte) => byte === 0)).toBe(true)
      await volume.close()
    })

    it('writes and reads a part of a block, leaving the rest of it alone', async () => {
      const volume = await openVolume()
      const file = await volume.open('log', { create: true })
      const block = mustAllocate(side().environment, 65_536)
      block.bytes.set(pattern(65_536, 9))
      await file.write(8192, block, 16_384, 8192)
      expect(sameBytes(await readBytes(file, 8192, 8192), pattern(65_536, 9).subarray(16_384, 24_576))).toBe(true)
      block.bytes.fill(0x11)
      expect(await file.read(8192, block, 4096, 8192)).toBe(8192)
      expect(sameBytes(block.bytes.subarray(4096, 12_288), pattern(65_536, 9).subarray(16_384, 24_576))).toBe(true)
      expect(block.bytes.subarray(0, 4096).every((byte) => byte === 0x11)).toBe(true)
      expect(block.bytes.subarray(12_288).every((byte) => byte === 0x11)).toBe(true)
      side().environment.memory.release(block)
      await volume.close()
    })

    it('reads short only at the end of the file', async () => {
      const volume = await openVolume()
      const file = await volume.open('log', { create: true })
      await writeBytes(file, 0, pattern(12_288, 5))
      expect((await readBytes(file, 0, 12_288)).byteLength).toBe(12_288)
      expect(sameBytes(await readBytes(file, 4096, 65_536), pattern(12_288, 5).subarray(4096))).toBe(true)
      expect((await readBytes(file, 12_288, 4096)).byteLength).toBe(0)
      expect((await readBytes(file, 1_048_576, 4096)).byteLength).toBe(0)
      await volume.close()
    })

    it('allocates space that reads as zeros and can be written in any order', async () => {
      const volume = await openVolume()
      const file = await volume.open('slot', { create: true })
      await file.allocate(1_048_576)
      expect(await file.size()).toBe(1_048_576)
      expect((await readBytes(file, 524_288, 65_536)).every((byte) => byte === 0)).toBe(true)
      await writeBytes(file, 1_044_480, pattern(4096, 6))
      await writeBytes(file, 0, pattern(4096, 7))
      await file.allocate(65_536)
      expect(await file.size()).toBe(1_048_576)
      expect(sameBytes(await readBytes(file, 1_044_480, 4096), pattern(4096, 6))).toBe(true)
      await volume.close()
    })

    it('refuses to allocate more than there is, and changes nothing', async () => {
      const volume = await openVolume()
      const { totalBytes } = await volume.space()
      const file = await volume.open('slot', { create: true })
      await writeBytes(file, 0, pattern(4096, 1))
      const tooMuch = Math.ceil((totalBytes * 2) / BLOCK_BYTES) * BLOCK_BYTES
      await expectCode('NO_SPACE', () => file.allocate(tooMuch))
      expect(await file.size()).toBe(4096)
      await volume.close()
    })

    it('keeps concurrent writes and reads of one file apart', async () => {
      const volume = await openVolume()
      const file = await volume.open('log', { create: true })
      await file.allocate(64 * 65_536)
      const blocks: Block[] = []
      await Promise.all(
        Array.from({ length: 64 }, async (_, i) => {
          const block = mustAllocate(side().environment, 65_536)
          blocks.push(block)
          block.bytes.set(pattern(65_536, i))
          await file.write(((i * 37) % 64) * 65_536, block, 0, 65_536)
        }),
      )
      for (const block of blocks) block.bytes.fill(0)
      await Promise.all(blocks.map((block, i) => file.read(((i * 37) % 64) * 65_536, block, 0, 65_536)))
      for (const [i, block] of blocks.entries()) {
        expect(sameBytes(block.bytes.subarray(0, 65_536), pattern(65_536, i))).toBe(true)
        side().environment.memory.release(block)
      }
      await volume.close()
    })

    it('flushes many files that have just grown', async () => {
      const volume = await openVolume()
      const files = await Promise.all(
        Array.from({ length: 20 }, async (_, i) => {
          const file = await volume.open(`grown-${i}`, { create: true })
          await file.allocate(4 * BLOCK_BYTES)
          await writeBytes(file, BLOCK_BYTES, pattern(BLOCK_BYTES, i))
          return file
        }),
      )
      await Promise.all([volume.flushGrown(files), volume.flushGrown(files.slice(0, 3))])
      for (const [i, file] of files.entries()) {
        expect(sameBytes(await readBytes(file, BLOCK_BYTES, BLOCK_BYTES), pattern(BLOCK_BYTES, i))).toBe(true)
      }
      await volume.close()
    })

    it('flushes groups of files, the same file twice, and none', async () => {
      const volume = await openVolume()
      const files = await Promise.all([0, 1, 2].map((i) => volume.open(`slot-${i}`, { create: true })))
      for (const file of files) {
        await file.allocate(65_536)
        await writeBytes(file, 0, pattern(65_536, 0))
        await file.sync()
        await writeBytes(file, 4096, pattern(4096, 1))
      }
      await volume.flush([...files, files[0]!])
      await volume.flush([])
      await volume.flushGrown([])
      await volume.flushGrown([files[0]!, files[0]!])
      await Promise.all([volume.flush(files), volume.flush(files), volume.flush([files[1]!])])
      await volume.close()
    })

    it('replaces small files as a whole', async () => {
      const directory = side().newDirectory()
      let volume = await openVolume(directory)
      await volume.writeSmall('identity', pattern(100, 1))
      expect(sameBytes((await volume.readSmall('identity'))!, pattern(100, 1))).toBe(true)
      await volume.writeSmall('identity', pattern(7, 2))
      await volume.writeSmall('empty', new Uint8Array(0))
      await volume.writeSmall('large', pattern(1_048_576, 3))
      await volume.close()
      volume = await openVolume(directory)
      expect(sameBytes((await volume.readSmall('identity'))!, pattern(7, 2))).toBe(true)
      expect((await volume.readSmall('empty'))?.byteLength).toBe(0)
      expect(sameBytes((await volume.readSmall('large'))!, pattern(1_048_576, 3))).toBe(true)
      await Promise.all([1, 2, 3, 4].map((seed) => volume.writeSmall('identity', pattern(5000, seed))))
      const last = (await volume.readSmall('identity'))!
      expect([1, 2, 3, 4].some((seed) => sameBytes(last, pattern(5000, seed)))).toBe(true)
      expect((await volume.list()).map(({ name }) => name).sort()).toEqual(['empty', 'identity', 'large'])
      await volume.close()
    })

    it('waits for operations in flight when it closes', async () => {
      const directory = side().newDirectory()
      const volume = await openVolume(directory)
      const file = await volume.open('log', { create: true })
      const block = mustAllocate(side().environment, 262_144)
      block.bytes.set(pattern(262_144, 8))
      const writing = file.write(0, block, 0, 262_144)
      await volume.close()
      await writing
      side().environment.memory.release(block)
      const again = await openVolume(directory)
      expect(sameBytes(await readBytes(await again.open('log'), 0, 262_144), pattern(262_144, 8))).toBe(true)
      await again.close()
    })

    it('asserts alignment and range', async () => {
      const volume: Volume = await openVolume()
      const file = await volume.open('log', { create: true })
      const block = mustAllocate(side().environment, 8192)
      for (const [position, offset, length] of [
        [1, 0, 4096],
        [0, 512, 4096],
        [0, 0, 100],
        [0, 4096, 8192],
        [-4096, 0, 4096],
      ] as const) {
        await expect((async () => file.write(position, block, offset, length))()).rejects.toThrow()
        await expect((async () => file.read(position, block, offset, length))()).rejects.toThrow()
      }
      for (const name of ['', '..', 'a/b', '.hidden', 'LOCK']) {
        await expect((async () => volume.open(name, { create: true }))()).rejects.toThrow()
      }
      side().environment.memory.release(block)
      await volume.close()
    })
  })
}
