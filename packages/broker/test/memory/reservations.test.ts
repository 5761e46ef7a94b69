// Workers that wait for reservations, in every order: nobody gets more than there is, and nobody is left asleep.
import { describe, expect, it } from 'vitest'
import type { AtomicOperations } from '#src/memory/atomics.js'
import { Reservations } from '#src/memory/reservations.js'
import { RESERVATION_WAITERS, RESERVED_FRAMES } from '#src/memory/table-layout.js'
import { explore, type Locals, type Program, type World } from './explorer.js'

const FRAMES = 3
const WAKE_WORD = RESERVED_FRAMES + 1

const TRY = 0
const LISTEN = 1
const TRY_AGAIN = 2
const SLEEP = 3
const GIVE_BACK = 4

interface Standing extends Record<string, number> {
  left: number
  phase: number
  held: number
}

/** Takes so many frames and gives them back, twice. */
class Taker implements Program {
  constructor(
    private readonly id: number,
    private readonly count: number,
    private readonly words: Int32Array,
    private readonly triesAgain: boolean,
  ) {}

  next(locals: Locals) {
    const { left, phase } = locals as Standing
    if (left === 0) return null
    if (phase === SLEEP) return 'asleep'
    return { name: `phase ${phase}`, run: (atomics: AtomicOperations) => this.run(atomics, locals as Standing) }
  }

  wake(locals: Locals): Locals {
    return { ...locals, phase: TRY }
  }

  private run(atomics: AtomicOperations, at: Standing): Standing {
    const reservations = new Reservations(FRAMES, this.words, atomics)
    switch (at.phase) {
      case LISTEN:
        reservations.listen(1 << this.id)
        return { ...at, phase: this.triesAgain ? TRY_AGAIN : SLEEP }
      case GIVE_BACK: {
        const bits = reservations.giveBack(this.count)
        if (bits !== 0) atomics.or(this.words, WAKE_WORD, bits)
        return { left: at.left - 1, phase: TRY, held: 0 }
      }
      default:
        if (reservations.take(this.count)) return { ...at, phase: GIVE_BACK, held: this.count }
        return { ...at, phase: at.phase === TRY ? LISTEN : SLEEP }
    }
  }
}

function worldOf(counts: readonly number[], triesAgain: boolean): World {
  const words = new Int32Array(new SharedArrayBuffer((RESERVATION_WAITERS + 1) * 4))
  return {
    words,
    watched: [RESERVED_FRAMES, RESERVATION_WAITERS, WAKE_WORD],
    quiet: new Set(),
    wakeWord: WAKE_WORD,
    programs: counts.map((count, id) => new Taker(id, count, words, triesAgain)),
    start: counts.map((): Standing => ({ left: 2, phase: TRY, held: 0 })),
    violated: (wordAt, locals) => {
      const held = (locals as readonly Standing[]).reduce((sum, standing) => sum + standing.held, 0)
      // Whoever is about to say that he has given back still counts as a holder.
      if (wordAt(RESERVED_FRAMES) > FRAMES) return `${wordAt(RESERVED_FRAMES)} of ${FRAMES} frames are reserved`
      return wordAt(RESERVED_FRAMES) < 0 || held > 2 * FRAMES ? 'more was given back than taken' : null
    },
    violatedAtEnd: (wordAt) => (wordAt(RESERVED_FRAMES) === 0 ? null : 'something stays reserved'),
  }
}

describe('reservations', () => {
  it.each([[[3, 3]], [[2, 2]], [[1, 3]], [[2, 2, 2]], [[2, 3]]])('of %j frames end well in every order', (counts) => {
    const { violation, states } = explore(worldOf(counts, true), { mostStates: 300_000 })
    expect(violation).toBeNull()
    expect(states).toBeGreaterThan(100)
  })

  it('are lost on who listens and does not try once more', () => {
    const { violation } = explore(worldOf([3, 3], false), { mostStates: 300_000 })
    expect(violation?.what).toMatch(/never woken/)
  })
})
