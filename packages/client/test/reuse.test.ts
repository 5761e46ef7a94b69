// batches({ reuseMemory: true }): memory goes round while nobody looks at it, and never under somebody's eyes.

import { bytes, type MillraceError, processEach, type RecordBatch, topic } from '@millrace/client'
import { type ClientEnvironment, connectWith } from '@millrace/client/environment'
import { describe, expect, test } from 'vitest'
import { FrameBuffers } from '#src/frame-buffers.js'
import { buildBatch, fill } from './support/batches.js'
import { begin, type Setting } from './support/setting.js'

const Raw = topic('orders', { key: bytes, value: bytes })
type Bytes = RecordBatch<Uint8Array, Uint8Array>

const BATCHES = 40
const RECORD_BYTES = 1_000
const RECORDS = 100
const PIECE_BYTES = 20_000

/** Batches too large for one chunk of the network, each with values that say which batch it is. */
function fillLarge({ cluster }: Setting): void {
  for (let at = 0; at < BATCHES; at++) {
    const value = String.fromCharCode(65 + at).repeat(RECORD_BYTES)
    cluster.append(
      1,
      0,
      buildBatch(
        1,
        0,
        Array.from({ length: RECORDS }, () => ({ value })),
      ),
    )
  }
}

/** A client that counts the memory it asks for, behind a network that hands over what it has in pieces. */
function counting(setting: Setting) {
  const counts = { allocated: 0 }
  const { environment: whole } = setting.world
  const environment: ClientEnvironment = {
    ...whole,
    dial: (host, port, handler) => {
      const onBytes = (bytes: Uint8Array): void => {
        for (let at = 0; at < bytes.length; at += PIECE_BYTES) handler.onBytes(bytes.slice(at, at + PIECE_BYTES))
      }
      const { onOpen, onDrain, onClosed } = handler
      return whole.dial(host, port, { onOpen, onDrain, onClosed, onBytes })
    },
    allocate: (byteLength: number): Uint8Array => {
      counts.allocated++
      return new Uint8Array(byteLength)
    },
  }
  return { mill: connectWith(environment, { bootstrap: 'broker:7420' }), counts }
}

const letters = (batch: Bytes): Set<number> => {
  const found = new Set<number>()
  for (const view = batch.view(); view.next(); ) {
    expect(view.valueEnd - view.valueStart).toBe(RECORD_BYTES)
    for (let at = view.valueStart; at < view.valueEnd; at++) found.add(view.bytes[at]!)
  }
  return found
}

describe('batches({ reuseMemory: true })', () => {
  test('takes the memory of finished batches for the next ones', async () => {
    const setting = begin({ partitions: 1 })
    fillLarge(setting)
    const consume = async (reuseMemory: boolean): Promise<number> => {
      const { mill, counts } = counting(setting)
      const seen: number[] = []
      const options = { from: 'earliest', until: 'end', inFlightBytes: RECORDS * RECORD_BYTES } as const
      const loop = (async () => {
        const before = counts.allocated
        for await (const batch of mill.consumer().subscribe(Raw, options).batches({ reuseMemory })) {
          const found = letters(batch)
          expect(found.size).toBe(1)
          seen.push(...found)
        }
        return counts.allocated - before
      })()
      const allocated = await setting.world.result(loop)
      expect(seen).toEqual(Array.from({ length: BATCHES }, (_, at) => 65 + at))
      return allocated
    }
    const without = await consume(false)
    const reusing = await consume(true)
    expect(without).toBeGreaterThanOrEqual(BATCHES / 2)
    expect(reusing).toBeLessThan(without / 2)
  })

  test('a batch that is worked on keeps its memory, whatever is finished around it', async () => {
    const setting = begin({ partitions: 1 })
    fillLarge(setting)
    const { mill } = counting(setting)
    const open: (() => void)[] = []
    let done = 0
    const work = async (batch: Bytes): Promise<void> => {
      const [letter] = letters(batch)
      // Every second one waits for long.
      if (letter! % 2 === 0) await new Promise<void>((resolve) => open.push(resolve))
      expect([...letters(batch)]).toEqual([letter])
      done++
      if (done > BATCHES / 4) for (const finish of open.splice(0)) finish()
    }
    const errors: unknown[] = []
    mill
      .consumer()
      .subscribe(Raw, { from: 'earliest', until: 'end' })
      .batches({ reuseMemory: true })
      .pipe(processEach(work, { concurrency: BATCHES }))
      .subscribe({ error: (error) => errors.push(error) })
    await setting.world.until(() => done + open.length === BATCHES || errors.length > 0)
    for (const finish of open.splice(0)) finish()
    await setting.world.until(() => done === BATCHES || errors.length > 0)
    expect(errors).toEqual([])
  })

  test('a batch that is finished says so, and one that is not asked for it never does', async () => {
    const setting = begin({ partitions: 1 })
    fill(setting.cluster, 1, 0, 20, 10)
    const collect = async (reuseMemory: boolean): Promise<Bytes[]> => {
      const found: Bytes[] = []
      let complete = false
      setting.mill
        .consumer()
        .subscribe(Raw, { from: 'earliest', until: 'end' })
        .batches({ reuseMemory })
        .subscribe({ next: (batch) => found.push(batch), complete: () => (complete = true) })
      await setting.world.until(() => complete)
      return found
    }
    const [kept] = await collect(false)
    expect([...kept!]).toHaveLength(10)
    const [gone] = await collect(true)
    expect(() => [...gone!]).toThrow(expect.objectContaining({ code: 'ERR_MILLRACE_CLOSED' } as Partial<MillraceError>))
  })
})

describe('memory of frames', () => {
  test('comes back only after somebody asked for it, only what was lent, and only up to a limit', () => {
    const buffers = new FrameBuffers()
    const early = buffers.take(1_000)
    buffers.want()
    buffers.giveBack(early)
    expect(buffers.take(1_000).buffer).not.toBe(early.buffer)
    const lent = buffers.take(1_000)
    buffers.giveBack(lent)
    // A second time would give it to two.
    buffers.giveBack(lent)
    expect(buffers.take(400).buffer).not.toBe(lent.buffer)
    const again = buffers.take(900)
    expect([again.buffer === lent.buffer, again.length]).toEqual([true, 900])
    expect(buffers.take(900).buffer).not.toBe(lent.buffer)
    buffers.giveBack(new Uint8Array(1_000))
    expect(buffers.take(1_000).buffer).not.toBe(again.buffer)
    const large = Array.from({ length: 3 }, () => buffers.take(4 * 1024 * 1024))
    for (const frame of large) buffers.giveBack(frame)
    const back = Array.from({ length: 3 }, () => buffers.take(4 * 1024 * 1024).buffer)
    expect(back.filter((buffer) => large.some((frame) => frame.buffer === buffer))).toHaveLength(2)
  })
})
