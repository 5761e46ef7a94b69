// Readers of a page table as the explorer and the stress test play them: what the pool does with it, without promises.
import type { AtomicOperations } from '#src/memory/atomics.js'
import { DOOMED, DOOMED_LOADING, FREE, LOADING, pinsOf, RESIDENT, statusOf } from '#src/memory/frame-state.js'
import { BUSY, CROWDED, frameOf, HIT, LOAD, MISS, outcomeOf, PageTable, WAIT } from '#src/memory/page-table.js'
import * as places from '#src/memory/table-layout.js'
import { TableLayout } from '#src/memory/table-layout.js'
import type { Locals, Operation, Program, World } from './explorer.js'

export type Action =
  /** Pin, wait or load, look at the content, unpin. */
  | { readonly does: 'read'; readonly page: number }
  /** Like read, but a load by this worker fails. */
  | { readonly does: 'fail'; readonly page: number }
  /** Evicts whatever can be evicted. */
  | { readonly does: 'evict' }
  /** Gives up the slot and waits until the last pin of its pages is gone. */
  | { readonly does: 'drop' }

export const read = (page: number): Action => ({ does: 'read', page })
export const fail = (page: number): Action => ({ does: 'fail', page })
export const evict: Action = { does: 'evict' }
export const drop: Action = { does: 'drop' }

const SLOT = 7
const GENERATION = 3
const VALID = 100
const INSISTS_AFTER = 1

// Where a worker stands within its action.
const FIND = 0
const CLAIM = 1
const PUBLISH = 2
const GIVE_BACK = 3
const FILL = 4
const LOADED = 5
const LISTEN = 6
const SLEEP = 7
const CHECK = 8
const UNPIN = 9
const FREE_OWN = 10
const DOOM = 11
const DROP_LISTEN = 12
const DROP_SLEEP = 13

interface Standing extends Record<string, number> {
  /** Actions done. */
  action: number
  phase: number
  tries: number
  /** The frame this worker has a pin of, or -1. */
  held: number
  /** The page it believes to be in there. */
  page: number
  /** The frame it owns, or -1. */
  owned: number
  /** Frames of a drop still to be looked at. */
  cursor: number
  /** After giving back the claimed frame: goes on with what publish found. */
  after: number
}

export interface ReaderOptions {
  readonly frames: number
  readonly entries: number
  readonly window: number
  readonly actions: readonly (readonly Action[])[]
  /** Pages that are there from the beginning, in the first frames. */
  readonly resident?: readonly number[]
  /** Workers begin with a frame claimed for the page they want to read, not having found it. */
  readonly missed?: boolean
  /** The table under test; a broken one is planted here. */
  readonly table?: (layout: TableLayout, words: Int32Array, atomics: AtomicOperations) => PageTable
  /** Plants the mistake of looking before listening. */
  readonly looksBeforeItListens?: boolean
}

class ReaderProgram implements Program {
  constructor(
    private readonly id: number,
    private readonly options: ReaderOptions,
    private readonly layout: TableLayout,
    private readonly words: Int32Array,
    private readonly contentAt: number,
    private readonly wakeWord: number,
  ) {}

  next(locals: Locals): Operation | 'asleep' | null {
    const standing = locals as Standing
    if (standing.action >= this.options.actions[this.id]!.length) return null
    if (standing.phase === SLEEP || standing.phase === DROP_SLEEP) return 'asleep'
    return {
      name: `${this.actionOf(standing).does} phase ${standing.phase}`,
      run: (atomics, before) => this.run(atomics, { ...(before as Standing) }),
    }
  }

  wake(locals: Locals): Locals {
    return { ...locals, phase: (locals as Standing).phase === SLEEP ? LISTEN : DROP_LISTEN }
  }

  private actionOf(standing: Standing): Action {
    return this.options.actions[this.id]![standing.action]!
  }

  private run(atomics: AtomicOperations, at: Standing): Standing {
    const make = this.options.table ?? ((layout, words, inner) => new PageTable(layout, words, inner))
    const table = make(this.layout, this.words, atomics)
    const action = this.actionOf(at)
    if (action.does === 'evict') return this.evict(table, atomics, at)
    if (action.does === 'drop') return this.drop(table, atomics, at)
    switch (at.phase) {
      case FIND:
        return this.found(at, table.find(SLOT, GENERATION, action.page), action.page)
      case CLAIM:
        return this.claim(table, at)
      case PUBLISH:
        return this.publish(table, at, action.page)
      case GIVE_BACK:
        this.wakeAll(atomics, table.free(at.owned))
        return { ...at, owned: -1, phase: at.after }
      case FILL:
        atomics.store(this.words, this.contentAt + at.held, action.page)
        return { ...at, phase: LOADED }
      case LOADED:
        this.wakeAll(
          atomics,
          action.does === 'fail' ? table.failed(at.held) : table.loaded(at.held, VALID + action.page),
        )
        return { ...at, phase: action.does === 'fail' ? UNPIN : CHECK }
      case LISTEN:
        return { ...at, phase: this.mustWait(table, at.held) ? SLEEP : CHECK }
      case CHECK:
        return this.check(table, atomics, at)
      case UNPIN:
        if (table.unpin(at.held)) return { ...at, owned: at.held, held: -1, phase: FREE_OWN }
        return this.done(at)
      default:
        this.wakeAll(atomics, table.free(at.owned))
        return this.done(at)
    }
  }

  private found(at: Standing, result: number, page: number): Standing {
    switch (outcomeOf(result)) {
      case HIT:
        return { ...at, held: frameOf(result), page, phase: CHECK }
      case WAIT:
        return { ...at, held: frameOf(result), page, phase: LISTEN }
      case MISS:
        return { ...at, phase: CLAIM }
      default:
        return { ...at, tries: Math.min(at.tries + 1, INSISTS_AFTER), phase: FIND }
    }
  }

  private claim(table: PageTable, at: Standing): Standing {
    for (let frame = 0; frame < this.options.frames; frame++) {
      if (table.claimFree(frame) || table.claimUnused(frame)) return { ...at, owned: frame, phase: PUBLISH }
    }
    // All are in use: the pool comes back later.
    return this.done(at)
  }

  private publish(table: PageTable, at: Standing, page: number): Standing {
    let result = table.publish(at.owned, SLOT, GENERATION, page, at.tries >= INSISTS_AFTER)
    if (outcomeOf(result) === CROWDED) result = table.adopt(at.owned)
    const frame = frameOf(result)
    if (outcomeOf(result) === LOAD) return { ...at, held: frame, page, owned: -1, phase: FILL }
    const next = this.found(at, outcomeOf(result) === BUSY ? BUSY : result, page)
    return { ...next, after: next.phase, phase: GIVE_BACK }
  }

  private mustWait(table: PageTable, frame: number): boolean {
    if (!this.options.looksBeforeItListens) {
      table.listen(frame, 1 << this.id)
      return table.isLoading(frame)
    }
    if (!table.isLoading(frame)) return false
    table.listen(frame, 1 << this.id)
    return true
  }

  private check(table: PageTable, atomics: AtomicOperations, at: Standing): Standing {
    const valid = table.validBytesOf(at.held)
    if (valid >= 0) {
      if (valid !== VALID + at.page) throw new Error(`page ${at.page} is said to have ${valid - VALID}`)
      const content = atomics.load(this.words, this.contentAt + at.held)
      if (content !== at.page) throw new Error(`page ${at.page} was asked for, ${content} is there`)
    }
    return { ...at, phase: UNPIN }
  }

  private evict(table: PageTable, atomics: AtomicOperations, at: Standing): Standing {
    if (at.phase === FREE_OWN) {
      this.wakeAll(atomics, table.free(at.owned))
      return this.done(at)
    }
    for (let frame = 0; frame < this.options.frames; frame++) {
      if (table.claimUnused(frame)) return { ...at, owned: frame, phase: FREE_OWN }
    }
    return this.done(at)
  }

  private drop(table: PageTable, atomics: AtomicOperations, at: Standing): Standing {
    if (at.phase === FREE_OWN) {
      this.wakeAll(atomics, table.free(at.owned))
      return { ...at, owned: -1, phase: DOOM }
    }
    if (at.phase === DROP_LISTEN) {
      table.listen(at.cursor, 1 << this.id)
      if (table.isDoomed(at.cursor, SLOT, GENERATION)) return { ...at, phase: DROP_SLEEP }
      return { ...at, cursor: at.cursor + 1, phase: DOOM }
    }
    if (at.cursor === this.options.frames) return this.done(at)
    const doomed = table.doom(at.cursor, SLOT, GENERATION)
    if (doomed === 'owned') return { ...at, owned: at.cursor, cursor: at.cursor + 1, phase: FREE_OWN }
    if (doomed === 'pinned') return { ...at, phase: DROP_LISTEN }
    return { ...at, cursor: at.cursor + 1, phase: DOOM }
  }

  private done(at: Standing): Standing {
    return startOf(at.action + 1)
  }

  private wakeAll(atomics: AtomicOperations, bits: number): void {
    if (bits !== 0) atomics.or(this.words, this.wakeWord, bits)
  }
}

function startOf(action: number): Standing {
  return { action, phase: FIND, tries: 0, held: -1, page: -1, owned: -1, cursor: 0, after: FIND }
}

/** A table of its own for some readers, and the rules that must hold whatever they do. */
export function readersWorld(options: ReaderOptions): World {
  const { frames, entries, window } = options
  const layout = new TableLayout({ frames, entries, window, ghosts: 1 })
  const contentAt = layout.byteLength / 4
  const wakeWord = contentAt + frames
  const words = new Int32Array(wakeWord + 1)
  layout.begin(words)
  // Set up by the real operations, one after the other.
  const table = new PageTable(layout, words, Atomics)
  for (const [frame, page] of (options.resident ?? []).entries()) {
    table.claimFree(frame)
    table.publish(frame, SLOT, GENERATION, page, false)
    words[contentAt + frame] = page
    table.loaded(frame, VALID + page)
    table.unpin(frame)
  }
  const claimFirst = (frame: number): number => {
    table.claimFree(frame)
    return frame
  }
  const fields = [places.STATE, places.PAGE, places.ENTRY, places.VALID_BYTES, places.WAITERS]
  const watched = [places.FREE_FRAMES, wakeWord]
  const constant = [places.SLOT, places.GENERATION]
  // Only whoever owns a frame touches its entry word; all pages here are of one slot; the count of free frames is only kept.
  const quiet = new Set([places.FREE_FRAMES])
  for (let frame = 0; frame < frames; frame++) {
    words[layout.word(frame, places.SLOT)] = SLOT
    words[layout.word(frame, places.GENERATION)] = GENERATION
    for (const field of [places.SLOT, places.GENERATION, places.ENTRY]) quiet.add(layout.word(frame, field))
  }
  for (let frame = 0; frame < frames; frame++) {
    watched.push(contentAt + frame, ...[...fields, ...constant].map((field) => layout.word(frame, field)))
  }
  for (let entry = 0; entry < entries; entry++) watched.push(layout.entriesAt + entry)
  const start = options.actions.map((_, id) =>
    options.missed ? { ...startOf(0), owned: claimFirst(id), phase: PUBLISH } : startOf(0),
  )
  return {
    words,
    watched,
    quiet,
    wakeWord,
    programs: options.actions.map((_, id) => new ReaderProgram(id, options, layout, words, contentAt, wakeWord)),
    start,
    violated: (wordAt, locals) => violated(layout, wordAt, locals as readonly Standing[]),
    violatedAtEnd: (wordAt) => violatedAtEnd(layout, wordAt),
  }
}

type WordAt = (at: number) => number

function violated(layout: TableLayout, wordAt: WordAt, workers: readonly Standing[]): string | null {
  const field = (frame: number, name: number): number => wordAt(layout.word(frame, name))
  const findable = new Set<number>()
  for (let frame = 0; frame < layout.geometry.frames; frame++) {
    const state = field(frame, places.STATE)
    const status = statusOf(state)
    const holders = workers.filter(({ held }) => held === frame)
    // Somewhere in the middle of giving a frame back it is nobody's any more.
    const owners = workers.filter(({ owned, phase }) => owned === frame && phase === PUBLISH)
    if (pinsOf(state) > workers.length) return `frame ${frame} has ${pinsOf(state)} pins of ${workers.length} workers`
    if (pinsOf(state) < holders.filter(({ phase }) => phase !== UNPIN).length) return `frame ${frame} has lost a pin`
    if (owners.length > 1) return `frame ${frame} has two owners`
    if (owners.length > 0 && holders.length > 0) return `frame ${frame} is owned while it is pinned`
    const loaders = holders.filter(({ phase }) => phase === FILL)
    if (loaders.length > 1) return `frame ${frame} has two loaders`
    for (const { page, phase } of holders) {
      if (phase === UNPIN) continue
      if (![LOADING, RESIDENT, DOOMED, DOOMED_LOADING].includes(status)) return `frame ${frame} is reused while pinned`
      if (field(frame, places.PAGE) !== page) return `frame ${frame} holds another page than its reader believes`
    }
    if (status !== LOADING && status !== RESIDENT) continue
    const page = field(frame, places.PAGE)
    if (findable.has(page)) return `page ${page} is in two frames`
    findable.add(page)
  }
  return null
}

/** What is broken in a table nobody uses at the moment, or null. */
export function violatedAtEnd(layout: TableLayout, wordAt: WordAt): string | null {
  let free = 0
  const standing = new Set<number>()
  for (let frame = 0; frame < layout.geometry.frames; frame++) {
    const state = wordAt(layout.word(frame, places.STATE))
    if (pinsOf(state) !== 0) return `frame ${frame} keeps ${pinsOf(state)} pins`
    if (statusOf(state) === FREE) free++
    else if (statusOf(state) !== RESIDENT) return `frame ${frame} is left in status ${statusOf(state)}`
    else standing.add(frame + 1)
  }
  if (wordAt(places.FREE_FRAMES) !== free)
    return `${wordAt(places.FREE_FRAMES)} frames are said to be free, ${free} are`
  for (let entry = 0; entry < layout.geometry.entries; entry++) {
    const found = wordAt(layout.entriesAt + entry)
    if (found !== 0 && !standing.delete(found)) return `entry ${entry} leads to frame ${found - 1}, which is not there`
  }
  return standing.size === 0 ? null : 'a page is there and not in the table'
}
