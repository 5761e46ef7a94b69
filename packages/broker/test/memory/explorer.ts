// Steps several workers through operations on shared words, one atomic access at a time, in every order there is.
import type { AtomicOperations } from '#src/memory/atomics.js'

/** What a worker knows between two operations: plain numbers, so that states can be compared. */
export type Locals = Readonly<Record<string, number>>

/** One operation: a function of the worker's locals and the results of its atomic accesses, and of nothing else. */
export interface Operation {
  readonly name: string
  run(atomics: AtomicOperations, locals: Locals): Locals
}

export interface Program {
  /** What the worker does next; 'asleep' while it may only go on after a wake-up, null when it is through. */
  next(locals: Locals): Operation | 'asleep' | null
  /** What changes for a sleeping worker when it is woken. */
  wake(locals: Locals): Locals
}

export interface World {
  readonly words: Int32Array
  /** The words that make up a state; the others never change. */
  readonly watched: readonly number[]
  /**
   * Words whose accesses commute with everything other workers do, since they never change, or only one worker at a time
   * may touch them and has to win another word for that: stepping them one by one would show nothing new.
   */
  readonly quiet: ReadonlySet<number>
  readonly programs: readonly Program[]
  readonly start: readonly Locals[]
  /** The word with a bit for each worker that is to be woken. */
  readonly wakeWord: number
  /** What is broken in a state, or null. */
  violated(wordAt: (at: number) => number, locals: readonly Locals[]): string | null
  /** What is broken once every worker is through, or null. */
  violatedAtEnd(wordAt: (at: number) => number): string | null
}

interface WorkerState {
  readonly locals: Locals
  /** Results of the atomic accesses of the operation under way. */
  readonly log: readonly number[]
}

interface Point {
  /** The watched words, in their order. */
  readonly words: readonly number[]
  readonly workers: readonly WorkerState[]
  readonly cameFrom: Point | null
  readonly by: string
}

export interface Explored {
  readonly states: number
  readonly steps: number
  readonly ends: number
  /** The first state that breaks a rule, and how it came about. */
  readonly violation: { readonly what: string; readonly trace: readonly string[] } | null
}

/** One for all, since a stack trace each would cost more than everything else. */
const PAUSED = new Error('paused')

/** Feeds back what was logged, performs one access more, and stops the operation at the next. */
class SteppingAtomics implements AtomicOperations {
  /** Results so far, those of this step included. */
  log: number[] = []
  private words: number[] = []
  private at = 0
  private performed = false

  /**
   * @param places where in a state each word stands.
   * @param isQuiet by word: its accesses need no step of their own, see `World.quiet`.
   */
  constructor(
    private readonly places: Int16Array,
    private readonly isQuiet: Uint8Array,
  ) {}

  begin(words: number[], log: readonly number[]): void {
    this.words = words
    this.log = [...log]
    this.at = 0
    this.performed = false
  }

  load(_: Int32Array, at: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    return this.did(this.words[this.places[at]!]!)
  }
  store(_: Int32Array, at: number, value: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    this.words[this.places[at]!] = value
    return this.did(value)
  }
  compareExchange(_: Int32Array, at: number, expected: number, replacement: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    const before = this.words[this.places[at]!]!
    if (before === expected) this.words[this.places[at]!] = replacement
    return this.did(before)
  }
  add(_: Int32Array, at: number, value: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    const before = this.words[this.places[at]!]!
    this.words[this.places[at]!] = before + value
    return this.did(before)
  }
  or(_: Int32Array, at: number, value: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    const before = this.words[this.places[at]!]!
    this.words[this.places[at]!] = before | value
    return this.did(before)
  }
  exchange(_: Int32Array, at: number, value: number): number {
    if (this.at < this.log.length) return this.log[this.at++]!
    this.step(at)
    const before = this.words[this.places[at]!]!
    this.words[this.places[at]!] = value
    return this.did(before)
  }

  private step(at: number): void {
    if (this.isQuiet[at] === 1) return
    if (this.performed) throw PAUSED
    this.performed = true
  }

  private did(result: number): number {
    this.at++
    this.log.push(result)
    return result
  }
}

export interface ExploreOptions {
  /** States are remembered by 52 bits of hash instead of as they are. */
  readonly hashed?: boolean
  readonly mostStates: number
  /** How accesses come out; broken ones are planted here. */
  readonly atomics?: (stepping: AtomicOperations) => AtomicOperations
}

/** Visits every state that can be reached, each once, until one breaks a rule. */
export function explore(world: World, options: ExploreOptions): Explored {
  const seen = new Set<string | number>()
  const places = new Int16Array(world.words.length).fill(-1)
  const isQuiet = new Uint8Array(world.words.length)
  for (const [place, at] of world.watched.entries()) places[at] = place
  for (const at of world.quiet) isQuiet[at] = 1
  const stepping = new SteppingAtomics(places, isQuiet)
  let looked: readonly number[] = []
  const wordAt = (at: number): number => looked[places[at]!]!
  const atomics = options.atomics?.(stepping) ?? stepping
  const first: Point = {
    words: world.watched.map((at) => world.words[at]!),
    workers: world.start.map((locals) => ({ locals, log: [] })),
    cameFrom: null,
    by: 'start',
  }
  const stack: Point[] = [first]
  const remember = (point: Point): boolean => {
    const numbers = numbersOf(point)
    const key = options.hashed ? hashed(numbers) : textOf(numbers)
    if (seen.has(key)) return false
    seen.add(key)
    return true
  }
  remember(first)
  let steps = 0
  let ends = 0
  const result = (violation: Explored['violation']): Explored => ({ states: seen.size, steps, ends, violation })
  for (let point = stack.pop(); point !== undefined; point = stack.pop()) {
    let moved = false
    for (let worker = 0; worker < world.programs.length; worker++) {
      const after = step(world, point, worker, stepping, atomics)
      if (after === null) continue
      moved = true
      steps++
      if (typeof after === 'string') return result({ what: after, trace: traceOf(point) })
      looked = after.words
      const broken = world.violated(
        wordAt,
        after.workers.map(({ locals }) => locals),
      )
      if (broken !== null) return result({ what: broken, trace: traceOf(after) })
      if (remember(after)) stack.push(after)
    }
    if (seen.size > options.mostStates) throw new Error(`more than ${options.mostStates} states`)
    if (moved) continue
    ends++
    looked = point.words
    const locals = point.workers.map((worker) => worker.locals)
    const asleep = world.programs.findIndex((program, i) => program.next(locals[i]!) === 'asleep')
    const broken = asleep >= 0 ? `worker ${asleep} is never woken` : world.violatedAtEnd(wordAt)
    if (broken !== null) return result({ what: broken, trace: traceOf(point) })
  }
  return result(null)
}

/** The state after one atomic access of a worker; null when it has nothing to do, a text when an assertion failed. */
function step(
  world: World,
  point: Point,
  worker: number,
  stepping: SteppingAtomics,
  atomics: AtomicOperations,
): Point | string | null {
  const { locals, log } = point.workers[worker]!
  const program = world.programs[worker]!
  const operation = program.next(locals)
  if (operation === null) return null
  const words = point.words.slice()
  const replaced = (name: string, state: WorkerState): Point => ({
    words,
    workers: point.workers.map((other, i) => (i === worker ? state : other)),
    cameFrom: point,
    by: `${worker}: ${name}`,
  })
  if (operation === 'asleep') {
    const bit = 1 << worker
    const wake = world.watched.indexOf(world.wakeWord)
    if ((words[wake]! & bit) === 0) return null
    words[wake]! &= ~bit
    return replaced('wakes up', { locals: program.wake(locals), log: [] })
  }
  stepping.begin(words, log)
  try {
    return replaced(`${operation.name} ends`, { locals: operation.run(atomics, locals), log: [] })
  } catch (cause) {
    if (cause === PAUSED) return replaced(`${operation.name} ${stepping.log.length}`, { locals, log: stepping.log })
    return `worker ${worker} in ${operation.name}: ${cause instanceof Error ? cause.message : String(cause)}`
  }
}

/** A state as numbers; lengths are told, so that no two states come out alike. */
function numbersOf({ words, workers }: Point): number[] {
  const numbers = [...words]
  for (const { locals, log } of workers) {
    for (const name in locals) numbers.push(locals[name]!)
    numbers.push(log.length)
    for (const result of log) numbers.push(result)
  }
  return numbers
}

function textOf(numbers: readonly number[]): string {
  let text = ''
  for (const number of numbers) text += String.fromCharCode(number & 0xffff, number >>> 16)
  return text
}

/** 53 bits (after cyrb53). */
function hashed(numbers: readonly number[]): number {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (const number of numbers) {
    a = Math.imul(a ^ number, 2654435761)
    b = Math.imul(b ^ number, 1597334677)
    a ^= a >>> 15
    b ^= b >>> 13
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return 4294967296 * (2097151 & b) + (a >>> 0)
}

function traceOf(point: Point): string[] {
  const trace: string[] = []
  for (let at: Point | null = point; at !== null; at = at.cameFrom) trace.push(at.by)
  return trace.reverse()
}
