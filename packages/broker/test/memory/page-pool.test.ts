// The pool over a file whose reads a test completes when it likes: sharing, dropping, reading ahead, running out.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import type { Block, Clock, DiskFile } from '#src/environment.js'
import type { Frame, FrameSource } from '#src/memory/frame.js'
import { PagePool, SourceDroppedError } from '#src/memory/page-pool.js'
import { FollowedCursors } from '#src/memory/read-ahead.js'
import { FrameWindow } from '#src/storage/frame-window.js'
import { CrashMemory } from '../../sim/crash/crash-environment.js'

const FRAME_BYTES = 4096
const PAGES = 32

const CLOCK: Clock = {
  monotonicMs: () => 0,
  wallMs: () => 0,
  timer: (_, callback) => {
    const timer = setImmediate(callback)
    return { cancel: () => clearImmediate(timer) }
  },
  defer: (callback) => void setImmediate(callback),
}

const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve))

interface PendingRead {
  readonly page: number
  readonly finish: (failure?: Error) => void
}

/** A slot in one generation; every byte of a page is made of the three. */
class PatternFile implements DiskFile {
  readonly name = 'pattern'
  readonly pending: PendingRead[] = []
  reads = 0
  holds = false

  constructor(readonly source: { readonly slotId: number; readonly generation: number }) {}

  byteAt(page: number): number {
    return (this.source.slotId * 31 + this.source.generation * 7 + page * 13) & 0xff
  }

  async read(position: number, block: Block, offset: number, length: number): Promise<number> {
    this.reads++
    const page = position / FRAME_BYTES
    if (this.holds) {
      await new Promise<void>((resolve, reject) => {
        const finish = (failure?: Error): void => (failure === undefined ? resolve() : reject(failure))
        this.pending.push({ page, finish })
      })
    }
    block.bytes.fill(this.byteAt(page), offset, offset + length)
    return length
  }

  finishAll(): void {
    for (const { finish } of this.pending.splice(0)) finish()
  }

  allocate = (): Promise<void> => Promise.reject(new Error('not written'))
  write = (): Promise<void> => Promise.reject(new Error('not written'))
  sync = (): Promise<void> => Promise.resolve()
  size = (): Promise<number> => Promise.resolve(PAGES * FRAME_BYTES)
  close = (): Promise<void> => Promise.resolve()
}

function sourceOf(slotId: number, generation = 1): FrameSource & { readonly file: PatternFile } {
  return { file: new PatternFile({ slotId, generation }), byteLength: PAGES * FRAME_BYTES, slotId, generation }
}

function poolOf(frames: number, memoryBytes = frames * FRAME_BYTES) {
  const memory = new CrashMemory(memoryBytes)
  return { memory, pool: new PagePool(memory, CLOCK, FRAME_BYTES, frames * FRAME_BYTES) }
}

async function pinned(pool: PagePool, source: FrameSource, page: number): Promise<Frame> {
  await pool.reserve(1)
  return pool.pin(source, page, FRAME_BYTES, source.byteLength)
}

function give(pool: PagePool, frame: Frame): void {
  pool.unpin(frame)
  pool.unreserve(1)
}

describe('a window', () => {
  it('keeps what it holds of a page when more of it cannot be read', async () => {
    const { pool, memory } = poolOf(8)
    const source = sourceOf(1)
    await pool.reserve(3)
    // Loaded when the file ended in it.
    pool.unpin(await pool.pin(source, 0, 1_000, 1_000))
    const window = new FrameWindow(pool, memory, source, FRAME_BYTES)
    expect(await window.pin(0, 900)).toBe(true)
    source.file.holds = true
    const more = window.pin(0, 2_000)
    while (source.file.pending.length === 0) await turn()
    source.file.pending.shift()!.finish(new Error('the disk reports an error'))
    await expect(more).rejects.toThrow('the disk reports an error')
    const [piece] = window.pieces(0, 900)
    expect(piece!.block.bytes.subarray(0, 900).every((byte) => byte === source.file.byteAt(0))).toBe(true)
    source.file.holds = false
    expect(await window.pin(0, 2_000)).toBe(true)
    expect(window.pinnedFrames).toBe(1)
    window.releaseAll()
    pool.unreserve(3)
    expect(pool.statistics.pinnedFrames).toBe(0)
  })
})

describe('a page', () => {
  it('is loaded once however many ask, and each of them is told when that fails', async () => {
    const { pool, memory } = poolOf(8)
    const source = sourceOf(1)
    source.file.holds = true
    const failing = Array.from({ length: 5 }, () => pinned(pool, source, 3))
    await turn()
    expect(source.file.reads).toBe(1)
    source.file.pending.shift()!.finish(new Error('unreadable'))
    for (const result of await Promise.allSettled(failing)) {
      expect(result).toMatchObject({ status: 'rejected', reason: { message: 'unreadable' } })
    }
    pool.unreserve(5)
    expect(pool.statistics).toMatchObject({ pinnedFrames: 0, frames: 0 })
    const asking = Array.from({ length: 5 }, () => pinned(pool, source, 3))
    await turn()
    source.file.finishAll()
    const frames = await Promise.all(asking)
    expect(new Set(frames).size).toBe(1)
    expect([source.file.reads, pool.statistics.pinnedFrames]).toEqual([2, 1])
    for (const frame of frames) give(pool, frame)
    expect(pool.statistics).toMatchObject({ misses: 2, hits: 4, pinnedFrames: 0, frames: 1 })
    await pool.close()
    expect(memory.usedBytes).toBe(0)
  })

  it('is loaded anew when more of it has come to be readable, and stays for those who read it', async () => {
    const { pool } = poolOf(4)
    const source = sourceOf(1)
    await pool.reserve(3)
    const short = await pool.pin(source, 2, 100, 2 * FRAME_BYTES + 100)
    expect(short.validBytes).toBe(100)
    const long = await pool.pin(source, 2, 200, 2 * FRAME_BYTES + 300)
    expect([long.validBytes, long === short]).toEqual([300, false])
    expect(short.block.bytes[5]).toBe(source.file.byteAt(2))
    expect(await pool.pin(source, 2, 300, 2 * FRAME_BYTES + 300)).toBe(long)
    for (const frame of [short, long, long]) pool.unpin(frame)
    expect(pool.statistics.frames).toBe(1)
  })
})

describe('a dropped source', () => {
  it('is not found from then on, and is gone with its last pin', async () => {
    const { pool, memory } = poolOf(8)
    const source = sourceOf(1)
    const other = sourceOf(1, 3)
    const held = await pinned(pool, source, 0)
    give(pool, await pinned(pool, source, 1))
    source.file.holds = true
    const loading = pinned(pool, source, 2)
    await turn()
    let isGone = false
    const dropping = pool.drop(source).then(() => {
      isGone = true
    })
    await expect(pool.pin(source, 0, 1, FRAME_BYTES)).rejects.toThrow(SourceDroppedError)
    await expect(pool.pin(source, 5, 1, FRAME_BYTES)).rejects.toThrow(SourceDroppedError)
    const own = await pinned(pool, other, 0)
    expect(own.block.bytes[0]).toBe(other.file.byteAt(0))
    expect(pool.statistics.frames).toBe(3)
    source.file.finishAll()
    const loaded = await loading
    expect(loaded.block.bytes[0]).toBe(source.file.byteAt(2))
    give(pool, held)
    for (let i = 0; i < 3; i++) await turn()
    expect(isGone).toBe(false)
    give(pool, loaded)
    await dropping
    expect(pool.statistics.frames).toBe(1)
    give(pool, own)
    await pool.close()
    expect(memory.usedBytes).toBe(0)
  })

  it('costs nothing when nobody read it', async () => {
    const { pool } = poolOf(4)
    await pool.drop(sourceOf(9))
    expect(pool.statistics.frames).toBe(0)
  })
})

describe('reading ahead', () => {
  it('loads pages before they are asked for, and counts what came of it', async () => {
    const { pool } = poolOf(16)
    const source = sourceOf(1)
    pool.readAhead(source, 4, 2, source.byteLength)
    pool.readAhead(source, 4, 2, source.byteLength)
    await turn()
    expect(source.file.reads).toBe(2)
    give(pool, await pinned(pool, source, 4))
    give(pool, await pinned(pool, source, 4))
    expect(pool.statistics).toMatchObject({ misses: 0, hits: 2, readAheadUsed: 1, readAheadWasted: 0 })
    await pool.drop(source)
    expect(pool.statistics).toMatchObject({ readAheadUsed: 1, readAheadWasted: 1 })
  })

  it('takes neither frames from readers nor pages that are not whole', async () => {
    const { pool } = poolOf(16)
    const source = sourceOf(1)
    pool.readAhead(source, 0, PAGES, 2 * FRAME_BYTES + 1)
    await turn()
    expect(source.file.reads).toBe(2)
    // A quarter of all frames is the most there is of pages nobody has asked for.
    pool.readAhead(source, 8, PAGES, source.byteLength)
    await turn()
    expect(source.file.reads).toBe(4)
    await pool.reserve(16)
    pool.readAhead(sourceOf(2), 0, 1, source.byteLength)
    const waiting = pool.reserve(1)
    pool.unreserve(16)
    await waiting
    expect(pool.statistics.frames).toBe(4)
  })

  it('lets a reader meet the error of a page that could not be read ahead', async () => {
    const { pool } = poolOf(8)
    const source = sourceOf(1)
    source.file.holds = true
    pool.readAhead(source, 1, 1, source.byteLength)
    await turn()
    source.file.pending.shift()!.finish(new Error('unreadable'))
    await turn()
    source.file.holds = false
    const frame = await pinned(pool, source, 1)
    expect(frame.block.bytes[0]).toBe(source.file.byteAt(1))
    expect([source.file.reads, pool.statistics.readAheadWasted]).toEqual([2, 1])
  })

  it('follows cursors that go on where they ended, further each time, and forgets those that jump', () => {
    const cursors = new FollowedCursors(1000)
    expect(cursors.advance(0, 10, 100)).toBe(0)
    expect(cursors.advance(10, 20, 100)).toBe(200)
    expect(cursors.advance(500, 510, 100)).toBe(0)
    expect([20, 30, 40].map((offset) => cursors.advance(offset, offset + 10, 100))).toEqual([400, 800, 1000])
    // Filled up in steps of a quarter: 900 of 1,000 bytes are still ahead, then 800, then 700.
    const goesOn = (offset: number): number => cursors.advance(offset, offset + 1, 100)
    expect([50, 51, 52, 53, 54, 55, 56, 57, 58].map(goesOn)).toEqual([0, 0, 1000, 0, 0, 1000, 0, 0, 1000])
    expect(cursors.advance(59, 60, 300)).toBe(1000)
    expect(cursors.advance(510, 520, 100)).toBe(200)
    expect(cursors.advance(50, 60, 100)).toBe(0)
    // Two at the same place are one from then on.
    expect(cursors.advance(40, 60, 100)).toBe(0)
    expect(cursors.advance(60, 70, 300)).toBe(1000)
    for (let i = 0; i < 8; i++) cursors.advance(1000 + i * 50, 1010 + i * 50, 10)
    expect(cursors.advance(70, 80, 100)).toBe(0)
  })
})

describe('a pool that is used up', () => {
  it('lets readers wait in their order, and serves all of them', async () => {
    const { pool, memory } = poolOf(4)
    const source = sourceOf(1)
    const order: number[] = []
    const reads = Array.from({ length: 12 }, async (_, i) => {
      await pool.reserve(2)
      const frames = [
        await pool.pin(source, i, 1, source.byteLength),
        await pool.pin(source, i + 1, 1, source.byteLength),
      ]
      order.push(i)
      await turn()
      for (const frame of frames) pool.unpin(frame)
      pool.unreserve(2)
    })
    await Promise.all(reads)
    expect(order).toEqual([...Array(12).keys()])
    expect(pool.statistics).toMatchObject({ pinnedFrames: 0, frames: 4 })
    expect(memory.usedBytes).toBe(4 * FRAME_BYTES)
  })

  it('gives memory back when it is asked to, and takes from its own pages when the environment has none', async () => {
    const { pool, memory } = poolOf(4, 2 * FRAME_BYTES)
    const source = sourceOf(1)
    for (let page = 0; page < 6; page++) give(pool, await pinned(pool, source, page))
    expect(pool.statistics.frames).toBe(2)
    expect(pool.reclaim()).toBe(true)
    expect(memory.usedBytes).toBe(FRAME_BYTES)
    const blocks = [memory.allocate(FRAME_BYTES)!]
    const [held, late] = [await pinned(pool, source, 9), pinned(pool, source, 10)]
    for (let i = 0; i < 5; i++) await turn()
    memory.release(blocks.pop()!)
    give(pool, await late)
    give(pool, held)
  })

  it('frees at once what is given back after it was closed', async () => {
    const { pool, memory } = poolOf(4)
    const source = sourceOf(1)
    source.file.holds = true
    pool.readAhead(source, 3, 1, source.byteLength)
    await turn()
    const closing = pool.close()
    source.file.finishAll()
    source.file.holds = false
    const held = await pinned(pool, source, 1)
    await closing
    expect(memory.usedBytes).toBe(FRAME_BYTES)
    give(pool, held)
    expect(memory.usedBytes).toBe(0)
  })
})

/** Random readers over three slots that change hands; every page looked at must hold what its slot held then. */
async function randomLife(seed: number): Promise<void> {
  const random = new SeededRandom(seed)
  const { pool, memory } = poolOf(2 + random.below(10))
  const sources = [1, 2, 3].map((slot) => sourceOf(slot))
  const held: { frame: Frame; source: FrameSource & { readonly file: PatternFile }; page: number }[] = []
  const under: Promise<void>[] = []
  for (let step = 0; step < 300; step++) {
    const at = random.below(3)
    const source = sources[at]!
    const page = random.below(PAGES)
    const chance = random.below(20)
    if (chance < 9) {
      under.push(
        pinned(pool, source, page).then(
          (frame) => void held.push({ frame, source, page }),
          (cause: unknown) => {
            if (!(cause instanceof SourceDroppedError) && !String(cause).includes('chance')) throw cause
            pool.unreserve(1)
          },
        ),
      )
    } else if (chance < 15) {
      const [one] = held.splice(random.below(Math.max(1, held.length)), 1)
      if (one !== undefined) {
        expect(one.frame.block.bytes.every((byte) => byte === one.source.file.byteAt(one.page))).toBe(true)
        give(pool, one.frame)
      }
    } else if (chance < 17) pool.readAhead(source, page, random.below(6), source.byteLength)
    else if (chance === 17) pool.reclaim()
    else if (chance === 18) {
      source.file.holds = !source.file.holds
      for (const { finish } of source.file.pending.splice(0)) finish(random.oneIn(4) ? new Error('chance') : undefined)
    } else if (random.oneIn(3)) {
      under.push(pool.drop(source))
      sources[at] = sourceOf(source.slotId, source.generation + 2)
      source.file.holds = false
      source.file.finishAll()
    }
    if (random.oneIn(3)) await turn()
    const { frames, pinnedFrames } = pool.statistics
    expect(memory.usedBytes).toBe(frames * FRAME_BYTES)
    expect(new Set(held.map(({ frame }) => frame.index)).size).toBeLessThanOrEqual(pinnedFrames)
  }
  const all = Promise.all(under)
  let isDone = false
  void all.then(() => {
    isDone = true
  })
  for (let rounds = 0; !isDone || held.length > 0; rounds++) {
    expect(rounds).toBeLessThan(5_000)
    for (const source of sources) {
      source.file.holds = false
      source.file.finishAll()
    }
    for (const one of held.splice(0)) give(pool, one.frame)
    await turn()
  }
  await all
  await pool.close()
  expect(memory.usedBytes).toBe(0)
  expect(pool.statistics).toMatchObject({ pinnedFrames: 0, frames: 0 })
}

describe('a pool with random readers', () => {
  it('shows each of them what he asked for, and ends empty', async () => {
    for (let seed = 1; seed <= 25; seed++) await randomLife(seed)
  })
})
