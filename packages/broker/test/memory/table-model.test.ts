// The page table and the clock in one thread, against a map.
import { SeededRandom } from '@millrace/protocol'
import { describe, expect, it } from 'vitest'
import { FrameClock } from '#src/memory/frame-clock.js'
import { CROWDED, frameOf, HIT, LOAD, MISS, outcomeOf, PageTable, WAIT } from '#src/memory/page-table.js'
import { Reservations } from '#src/memory/reservations.js'
import { geometryFor, TableLayout } from '#src/memory/table-layout.js'
import { violatedAtEnd } from './table-readers.js'

interface ModelFrame {
  readonly key: string
  pins: number
  status: 'loading' | 'resident' | 'doomed' | 'doomed loading'
}

class Model {
  /** By frame; findable or not. */
  readonly frames = new Map<number, ModelFrame>()

  find(key: string): [number, ModelFrame] | undefined {
    return [...this.frames].find(([, frame]) => frame.key === key && !frame.status.startsWith('doomed'))
  }
}

function tableOf(frames: number) {
  const layout = new TableLayout(geometryFor(frames))
  const words = new Int32Array(new SharedArrayBuffer(layout.byteLength))
  layout.begin(words)
  const table = new PageTable(layout, words, Atomics)
  return { layout, words, table, clock: new FrameClock(table) }
}

function randomLife(seed: number, frames: number, steps: number): void {
  const { layout, words, table, clock } = tableOf(frames)
  const random = new SeededRandom(seed)
  const model = new Model()
  const free = (frame: number): void => {
    model.frames.delete(frame)
    clock.forget(frame)
    table.free(frame)
  }
  const unpin = (frame: number): void => {
    const known = model.frames.get(frame)!
    known.pins--
    const isLast = known.status === 'doomed' && known.pins === 0
    expect(table.unpin(frame)).toBe(isLast)
    if (isLast) free(frame)
  }
  for (let step = 0; step < steps; step++) {
    const slot = random.below(3)
    const generation = random.below(2) * 2 + 1
    const page = random.below(frames)
    const key = `${slot}/${generation}/${page}`
    const pick = [...model.frames.keys()][random.below(Math.max(1, model.frames.size))]
    switch (random.below(8)) {
      case 0:
      case 1:
      case 2: {
        const known = model.find(key)
        const result = table.find(slot, generation, page)
        expect(table.has(slot, generation, page)).toBe(known !== undefined)
        if (known === undefined) {
          expect(outcomeOf(result)).toBe(MISS)
          const frame = clock.claim(false)
          const usable = layout.geometry.frames - [...model.frames.values()].filter(({ pins }) => pins > 0).length
          expect(frame >= 0).toBe(usable > 0)
          if (frame < 0) break
          model.frames.delete(frame)
          const published = table.publish(frame, slot, generation, page, false)
          expect([LOAD, CROWDED]).toContain(outcomeOf(published))
          clock.noteLoad(frame, slot, generation, page, random.oneIn(3))
          model.frames.set(frame, { key, pins: 1, status: 'loading' })
        } else {
          expect(outcomeOf(result)).toBe(known[1].status === 'resident' ? HIT : WAIT)
          expect(frameOf(result)).toBe(known[0])
          if (outcomeOf(result) === HIT) clock.touch(known[0])
          known[1].pins++
        }
        break
      }
      case 3:
      case 4:
        if (pick !== undefined && model.frames.get(pick)!.pins > 1) unpin(pick)
        else if (pick !== undefined && model.frames.get(pick)!.pins === 1) {
          if (!model.frames.get(pick)!.status.endsWith('loading')) unpin(pick)
        }
        break
      case 5:
      case 6: {
        const known = pick === undefined ? undefined : model.frames.get(pick)
        if (pick === undefined || known === undefined || !known.status.endsWith('loading')) break
        const failed = random.oneIn(5)
        if (failed) table.failed(pick)
        else table.loaded(pick, step)
        expect(table.validBytesOf(pick)).toBe(failed ? -1 : step)
        known.status = failed || known.status === 'doomed loading' ? 'doomed' : 'resident'
        unpin(pick)
        break
      }
      default: {
        if (!random.oneIn(6)) break
        for (let frame = 0; frame < frames; frame++) {
          const known = model.frames.get(frame)
          const doomed = table.doom(frame, slot, generation)
          const isOf = known?.key.startsWith(`${slot}/${generation}/`) ?? false
          if (!isOf || known === undefined) expect(doomed).toBe('none')
          else if (known.pins === 0) {
            expect(doomed).toBe('owned')
            free(frame)
          } else {
            expect(doomed).toBe('pinned')
            known.status = known.status.endsWith('loading') ? 'doomed loading' : 'doomed'
            expect(table.isDoomed(frame, slot, generation)).toBe(true)
          }
        }
      }
    }
  }
  for (const [frame, known] of [...model.frames]) {
    if (known.status.endsWith('loading')) {
      table.loaded(frame, 0)
      known.status = known.status === 'loading' ? 'resident' : 'doomed'
    }
    while (known.pins > 0) unpin(frame)
  }
  expect(violatedAtEnd(layout, (at) => words[at]!)).toBeNull()
}

describe('a page table', () => {
  it('does what a map would do', () => {
    for (let seed = 1; seed <= 9; seed++) randomLife(seed, 1 + (seed % 9), 1_500)
  })

  it('hands out versions that come round', () => {
    const { table, clock } = tableOf(1)
    for (let load = 0; load < 70_000; load++) {
      const frame = clock.claim(false)
      expect(frame).toBe(0)
      if (outcomeOf(table.publish(frame, 1, 1, load & 3, false)) !== LOAD) throw new Error('not loaded')
      table.loaded(frame, 1)
      if (table.unpin(frame)) throw new Error('a page that was not dropped is kept')
      if (outcomeOf(table.find(1, 1, load & 3)) !== HIT) throw new Error('not found')
      table.unpin(frame)
    }
  })
})

describe('reservations', () => {
  it('are never more than there are frames, and wake those who were refused', () => {
    const { words } = tableOf(4)
    const reservations = new Reservations(10, words, Atomics)
    expect(reservations.take(7)).toBe(true)
    expect(reservations.take(4)).toBe(false)
    reservations.listen(2)
    reservations.listen(4)
    expect(reservations.take(3)).toBe(true)
    expect(reservations.giveBack(5)).toBe(6)
    expect(reservations.giveBack(5)).toBe(0)
    expect(() => reservations.giveBack(1)).toThrow(/reserved/)
  })
})
