// The disk that misbehaves does only what it was asked to: what it makes of a transfer comes from it, not from the kernel.
import { expect, it, onTestFinished } from 'vitest'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { eventually } from './broker-process.js'
import { describeFaults } from './faults-suite.js'
import { FaultyDisk } from './faulty-disk.js'
import { command } from './fuse.js'

const FILE_BYTES = 64 * 1024
/** Of a file of 16 blocks, each read or write about half of what is left: 65,536, 32,768, 16,384, 8,192 and 4,096 bytes. */
const PARTS = 5
const ROUNDS = 8
const SLOTS = /^slot-/

await describeFaults(() => {
  // A file system whose reads may be cached says with a short one that its file ends there. Whether the kernel believes that
  // or reads zeros up to the size it knows depends on what else it hears of the file in the meantime.
  it('passes short reads and writes to whoever asked, whatever else is asked of the file meanwhile', async () => {
    const disk = await FaultyDisk.create({ asyncDirect: false, pastCache: true })
    if ('refused' in disk) throw new Error(disk.refused)
    onTestFinished(() => disk.end())
    const logger = { debug() {}, info() {}, warn() {}, error() {} }
    const environment = createPortableEnvironment({ memoryBytes: 8 * 1024 * 1024, logger })
    onTestFinished(() => environment.close())
    const volume = await environment.disk.openVolume(disk.directory, { requireDirect: true })
    const file = await volume.open('slot-1', { create: true })
    const written = environment.memory.allocate(FILE_BYTES)!
    for (let i = 0; i < FILE_BYTES; i++) written.bytes[i] = 1 + (i % 251)
    const writes = disk.inject({ on: ['write'], effect: 'short', files: SLOTS })
    await file.write(0, written, 0, FILE_BYTES)
    expect(writes.met).toBe(PARTS)
    const read = environment.memory.allocate(FILE_BYTES)!
    for (let round = 1; round <= ROUNDS; round++) {
      read.bytes.fill(0)
      const hanging = disk.inject({ on: ['read'], effect: 'hang', files: SLOTS, after: 1 })
      const short = disk.inject({ on: ['read'], effect: 'short', files: SLOTS })
      const reading = file.read(0, read, 0, FILE_BYTES)
      await eventually('the second part is being read', () => disk.hangingCount > 0, 30_000)
      expect(await command('stat', [`${disk.directory}/slot-1`])).toBe(null)
      hanging.lift()
      expect(await reading).toBe(FILE_BYTES)
      expect(Buffer.compare(read.bytes, written.bytes), `round ${round}`).toBe(0)
      expect(short.met).toBe(PARTS)
      short.lift()
    }
  })
})
