// Goes through the states that crashes of one trace could leave: all of them where they are few, samples elsewhere.
import { SeededRandom } from '../random.js'
import type { DiskTrace, TraceEvent } from './disk-trace.js'
import { type Choice, DurableState, type FlushModel } from './durable-state.js'
import { SECTOR_BYTES, type VolumeImage } from './page-image.js'
import { CrashFailure, type CrashInvariant, type Owed, recoverAndCheck } from './recovered-check.js'
import { type Step, Workload, type WorkloadResult } from './workload.js'

/** With at most so many free choices every combination of old and new is a state. */
const EXHAUSTIVE_CHOICES = 12
const SAMPLES_PER_POINT = 64
/** Each visit of a short trace takes one in so many of its states; as many visits take them all. */
const VISITS = 64
const STATES_PER_RANDOM_TRACE = 150

const SHORT_STEPS: readonly Step[] = [
  { kind: 'append', log: 0, bytes: 300, mode: 'flush' },
  { kind: 'append', log: 0, bytes: 9000, mode: 'write' },
  { kind: 'append', log: 0, bytes: 27_000, mode: 'flush' },
  { kind: 'append', log: 1, bytes: 300, mode: 'write' },
  { kind: 'flush', log: 0 },
  { kind: 'drop', log: 0 },
  { kind: 'settle', log: 0 },
]

/** All sequences of at most three steps. */
export const SHORT_TRACES: readonly (readonly Step[])[] = [1, 2, 3].flatMap((length) => sequences(length))

function sequences(length: number): Step[][] {
  if (length === 0) return [[]]
  return sequences(length - 1).flatMap((before) => SHORT_STEPS.map((step) => [...before, step]))
}

export interface FoundFailure {
  readonly trace: number
  readonly state: number
  readonly invariant: CrashInvariant
  readonly message: string
}

export interface SearchResult {
  readonly states: number
  readonly failure: FoundFailure | null
}

/** How one state of a crash point comes about. */
type Recipe = (choices: readonly Choice[], durable: DurableState, random: SeededRandom) => VolumeImage

interface CrashPoint {
  readonly durable: DurableState
  readonly choices: readonly Choice[]
}

/**
 * Crashes the trace with this number: even numbers are short ones, odd numbers random ones.
 * @param limit states at most. @param only the one state to look at.
 */
export async function searchTrace(trace: number, limit: number, only: number | null): Promise<SearchResult> {
  const random = new SeededRandom(`crash/${trace}`)
  const model: FlushModel = (trace >> 1) % 2 === 0 ? 'files' : 'volume'
  const workload = await runWorkload(trace, random)
  const search = new TraceSearch(trace, random.split('states'), workload, model, limit, only)
  return search.run(trace % 2 === 0 ? Math.floor(trace / 2 / SHORT_TRACES.length) % VISITS : null)
}

async function runWorkload(trace: number, random: SeededRandom): Promise<WorkloadResult> {
  const workload = new Workload(random.split('workload'))
  if (trace % 2 === 0) return workload.run(2, SHORT_TRACES[(trace / 2) % SHORT_TRACES.length]!)
  return workload.run(random.integer(1, 4), drawSteps(random))
}

function drawSteps(random: SeededRandom): Step[] {
  const steps: Step[] = []
  const count = random.integer(20, 200)
  const large = random.chance(0.3)
  const flushShare = random.fraction()
  for (let i = 0; i < count; i++) {
    const log = random.integer(0, 3)
    const draw = random.fraction()
    const bytes = Math.floor(random.logBetween(1, large ? 27_000 : 4000))
    if (draw < 0.6) steps.push({ kind: 'append', log, bytes, mode: random.chance(flushShare) ? 'flush' : 'write' })
    else if (draw < 0.95) steps.push({ kind: 'settle', log })
    else if (draw < 0.99) steps.push({ kind: 'flush', log })
    else steps.push({ kind: 'drop', log })
  }
  if (random.chance(0.3)) steps.push({ kind: 'close' })
  return steps
}

class TraceSearch {
  private states = 0
  private number = 0

  constructor(
    private readonly trace: number,
    private readonly random: SeededRandom,
    private readonly workload: WorkloadResult,
    private readonly model: FlushModel,
    private readonly limit: number,
    private readonly only: number | null,
  ) {}

  /** @param visit which share of a short trace's states is taken; null for a random trace. */
  async run(visit: number | null): Promise<SearchResult> {
    const { trace, start } = this.workload
    const durable = new DurableState(start, this.model)
    const points = trace.events.filter((event, i) => isCrashPoint(event, trace.events[i + 1])).length
    for (const [i, event] of trace.events.entries()) {
      if (event.kind === 'note') event.apply()
      else durable.step(event)
      if (!isCrashPoint(event, trace.events[i + 1])) continue
      const point = { durable, choices: durable.choices() }
      const recipes = visit === null ? this.samples(STATES_PER_RANDOM_TRACE / points) : allStates(point)
      for (const recipe of recipes) {
        const number = this.number++
        const taken = this.only === null ? visit === null || number % VISITS === visit : number === this.only
        if (!taken) continue
        const failure = await this.crash(point, recipe, number)
        this.states++
        if (failure !== null || this.states >= this.limit) return { states: this.states, failure }
      }
    }
    return { states: this.states, failure: null }
  }

  /** A few states of a point: `expected` on average, since there are many points. */
  private samples(expected: number): Recipe[] {
    const count = Math.floor(expected) + (this.random.chance(expected % 1) ? 1 : 0)
    return Array.from({ length: count }, () => sample)
  }

  private async crash(point: CrashPoint, recipe: Recipe, number: number): Promise<FoundFailure | null> {
    // Everything about a state follows from its number, so that one alone can be looked at again.
    const random = new SeededRandom(`crash/${this.trace}/${number}`)
    try {
      await this.crashAndRecover(recipe(point.choices, point.durable, random), this.owed('flushed'), random)
      return null
    } catch (error) {
      if (!(error instanceof CrashFailure)) throw error
      return { trace: this.trace, state: number, invariant: error.invariant, message: error.message }
    }
  }

  private owed(kept: 'flushed' | 'written'): Owed[] {
    return [...this.workload.logs.values()].map((log) => ({
      topicId: log.key.topicId,
      batches: log.batches,
      given: log.given,
      kept: log[kept],
      dropAsked: log.dropAsked,
      dropped: log.dropped,
    }))
  }

  /** Recovery, then by chance: recovery again, a crash during recovery, or appends and another recovery. */
  private async crashAndRecover(image: VolumeImage, owed: readonly Owed[], random: SeededRandom): Promise<void> {
    const second = random.integer(0, 5)
    if (second === 0) {
      const { recovered } = await recoverAndCheck(image, owed)
      const again = await recoverAndCheck(recovered.image, owed)
      for (const [topicId, count] of recovered.counts) {
        if (again.recovered.counts.get(topicId) === count) continue
        throw new CrashFailure('not idempotent', `log ${topicId} had ${count} batches when first recovered`)
      }
    } else if (second === 1) {
      const { recovered } = await recoverAndCheck(image, owed, { traced: true })
      await recoverAndCheck(crashedAgain(image, recovered.trace!, this.model, random), owed)
    } else if (second === 2) {
      const first = await recoverAndCheck(image, owed, { goOn: random.pick([1, 1, 2, 3, 12]), traced: true })
      const { trace } = first.recovered
      await recoverAndCheck(lastState(image, trace!, this.model, random), first.owed)
    } else await recoverAndCheck(image, owed)
  }
}

/** A crash of recovery itself, at any of its operations. */
function crashedAgain(image: VolumeImage, trace: DiskTrace, model: FlushModel, random: SeededRandom): VolumeImage {
  const durable = new DurableState(image, model)
  const end = random.integer(0, trace.events.length)
  for (const event of trace.events.slice(0, end)) durable.step(event)
  return sample(durable.choices(), durable, random)
}

/** A crash after the last operation: what was flushed is there, the rest is chance. */
function lastState(image: VolumeImage, trace: DiskTrace, model: FlushModel, random: SeededRandom): VolumeImage {
  const durable = new DurableState(image, model)
  for (const event of trace.events) durable.step(event)
  return sample(durable.choices(), durable, random)
}

/**
 * Where a crash can leave something new: what was submitted may be there, what a flush covered has to be, and what was
 * noted is owed. That a write completed changes nothing by itself.
 */
function isCrashPoint(event: TraceEvent, next: TraceEvent | undefined): boolean {
  if (next === undefined) return true
  if (event.kind === 'submit') return true
  if (event.kind === 'note') return next.kind !== 'note'
  return event.operation.kind !== 'write' && next.kind !== 'note'
}

/** Every combination of old and new where the choices are few, and each sector as garbage; samples where they are many. */
function allStates({ choices: { length } }: CrashPoint): Recipe[] {
  if (length > EXHAUSTIVE_CHOICES) return Array.from({ length: SAMPLES_PER_POINT }, () => sample)
  const recipes: Recipe[] = []
  for (let mask = 0; mask < 2 ** length; mask++) {
    recipes.push((choices, durable) =>
      durable.build(choices, (choice, i) => ((mask >> i) & 1 ? newest(choice) : false)),
    )
  }
  for (let garbage = 0; garbage < length; garbage++) {
    recipes.push((choices, durable, random) => {
      const bytes = new Uint8Array(SECTOR_BYTES)
      random.fill(bytes)
      return durable.build(choices, (choice, i) => (i === garbage && choice.kind === 'sector' ? bytes : newest(choice)))
    })
  }
  return recipes
}

function newest(choice: Choice): Uint8Array | boolean {
  return choice.kind === 'sector' ? choice.versions.at(-1)! : true
}

/** Each choice by itself, with odds drawn once: few or many of the new sectors, some garbage, some zeros. */
function sample(choices: readonly Choice[], durable: DurableState, random: SeededRandom): VolumeImage {
  if (choices.length > 0 && random.chance(0.25)) return allButOne(choices, durable, random)
  const newer = random.pick([0, 0.1, 0.5, 0.9, 1])
  const garbage = random.pick([0, 0, 0.05])
  const zero = random.pick([0, 0, 0.05])
  const wholeFile = random.chance(0.2)
  const fileIsNew = new Map<string, boolean>()
  return durable.build(choices, (choice) => {
    if (choice.kind === 'change') return random.chance(newer)
    const draw = random.fraction()
    if (draw < garbage) {
      const bytes = new Uint8Array(SECTOR_BYTES)
      random.fill(bytes)
      return bytes
    }
    if (draw < garbage + zero) return new Uint8Array(SECTOR_BYTES)
    if (wholeFile) {
      const known = fileIsNew.get(choice.file) ?? random.chance(newer)
      fileIsNew.set(choice.file, known)
      return known ? choice.versions.at(-1)! : false
    }
    return random.chance(newer) ? random.pick(choice.versions) : false
  })
}

/** Everything reached the disk but one page: the holes in which a log is cut with whole groups behind them. */
function allButOne(choices: readonly Choice[], durable: DurableState, random: SeededRandom): VolumeImage {
  const lost = random.pick(choices)
  return durable.build(choices, (choice) => {
    if (choice === lost) return false
    const samePage = choice.kind === 'sector' && lost.kind === 'sector' && choice.page === lost.page
    return samePage && choice.file === lost.file ? false : newest(choice)
  })
}
