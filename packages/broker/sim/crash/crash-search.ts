// Goes through the states that crashes of one trace could leave: all of them where they are few, samples elsewhere.
import { SeededRandom } from '../random.js'
import { CrashFailure, type CrashInvariant } from './crash-failure.js'
import { allStates, CrashPoint, rotSector, type StateRecipe, sampleState } from './crash-states.js'
import type { DiskTrace, TraceEvent } from './disk-trace.js'
import { DurableState, type FlushModel } from './durable-state.js'
import type { Owed, TracedLog } from './log-history.js'
import { checkOwed, type RecoveredLogs } from './owed-check.js'
import type { VolumeImage } from './page-image.js'
import { type Recovered, type RecoverOptions, recoverAndCheck } from './recovered-check.js'
import { drawTrace, SHORT_TRACES } from './traces.js'
import { checkHadLog, checkVote, type FoundVote, type OwedVotes } from './vote-history.js'
import { Workload, type WorkloadResult } from './workload.js'

/** Each visit of a short trace takes one in so many of its states; as many visits take them all. */
const VISITS = 64
const STATES_PER_RANDOM_TRACE = 300
/** The opening of the store is much the same in all traces: one in so many looks at it. */
const TRACES_PER_OPENING = 32

/** Of one state: most sectors that rot are of no use to anybody any more. */
const ROTTEN_IMAGES = 3

export interface FoundFailure {
  readonly trace: number
  readonly state: number
  readonly invariant: CrashInvariant
  readonly message: string
}

export interface SearchResult {
  readonly trace: number
  /** Hashes of the images judged, all different. */
  readonly images: readonly number[]
  /** States whose image had been judged before: recovered from already, they were held against what was owed. */
  readonly duplicates: number
  readonly failure: FoundFailure | null
}

/**
 * Crashes the trace with this number: even numbers are short ones, odd numbers random ones.
 * @param only the one state to look at, or null.
 */
export async function searchTrace(trace: number, only: number | null = null): Promise<SearchResult> {
  const random = new SeededRandom(`crash/${trace}`)
  const model: FlushModel = (trace >> 1) % 2 === 0 ? 'files' : 'volume'
  const visit = trace % 2 === 0 ? Math.floor(trace / 2 / SHORT_TRACES.length) % VISITS : null
  try {
    return await searchWorkload(await runWorkload(trace, random), { trace, model, visit, only })
  } catch (error) {
    // The log itself broke, before anything crashed.
    const message = error instanceof Error ? (error.stack ?? error.message) : String(error)
    return { trace, images: [], duplicates: 0, failure: { trace, state: 0, invariant: 'exception', message } }
  }
}

export interface SearchOptions {
  readonly trace: number
  readonly model: FlushModel
  /** Which share of a short trace's states is taken; null takes samples. */
  readonly visit: number | null
  readonly only: number | null
}

/** Crashes what a workload did to its disk. */
export function searchWorkload(workload: WorkloadResult, options: SearchOptions): Promise<SearchResult> {
  return new TraceSearch(workload, options).run()
}

async function runWorkload(trace: number, random: SeededRandom): Promise<WorkloadResult> {
  const workload = new Workload(random.split('workload'))
  if (trace % 2 === 0) return workload.run(2, SHORT_TRACES[(trace / 2) % SHORT_TRACES.length]!)
  const { logs, steps } = drawTrace(random)
  return workload.run(logs, steps)
}

interface Judged {
  readonly logs: RecoveredLogs
  readonly votes: ReadonlyMap<number, FoundVote>
  readonly hadLogs: ReadonlySet<number>
}

class TraceSearch {
  private readonly images: number[] = []
  /** What recovery made of an image: the same image owes something else later. */
  private readonly judged = new Map<number, Judged | null>()
  private duplicates = 0
  private number = 0
  private readonly trace: number
  private readonly model: FlushModel
  private readonly random: SeededRandom

  constructor(
    private readonly workload: WorkloadResult,
    private readonly options: SearchOptions,
  ) {
    this.trace = options.trace
    this.model = options.model
    this.random = new SeededRandom(`crash/${options.trace}/states`)
  }

  async run(): Promise<SearchResult> {
    const { trace, start, opened } = this.workload
    const first = this.trace % TRACES_PER_OPENING < 2 ? 0 : opened
    const durable = new DurableState(start, this.model)
    const isPoint = (event: TraceEvent, i: number) => i >= first && isCrashPoint(event, trace.events[i + 1])
    const points = trace.events.filter(isPoint).length
    for (const [i, event] of trace.events.entries()) {
      if (event.kind === 'note') event.apply()
      else durable.step(event)
      if (!isPoint(event, i)) continue
      const failure = await this.crashAt(new CrashPoint(durable), STATES_PER_RANDOM_TRACE / points)
      if (failure !== null) return this.result(failure)
    }
    return this.result(null)
  }

  private result(failure: FoundFailure | null): SearchResult {
    return { trace: this.trace, images: this.images, duplicates: this.duplicates, failure }
  }

  private async crashAt(point: CrashPoint, samples: number): Promise<FoundFailure | null> {
    const { visit, only } = this.options
    for (const recipe of visit === null ? this.samples(samples) : allStates(point)) {
      const number = this.number++
      const taken = only === null ? visit === null || number % VISITS === visit : number === only
      if (!taken) continue
      const failure = await this.crash(point, recipe, number)
      if (failure !== null) return failure
    }
    return null
  }

  /** A few states of a point: `expected` on average, since there are many points. */
  private samples(expected: number): StateRecipe[] {
    const count = Math.floor(expected) + (this.random.chance(expected % 1) ? 1 : 0)
    return Array.from({ length: count }, () => sampleState)
  }

  private async crash(point: CrashPoint, recipe: StateRecipe, number: number): Promise<FoundFailure | null> {
    // Everything about a state follows from its number, so that one alone can be looked at again.
    const random = new SeededRandom(`crash/${this.trace}/${number}`)
    try {
      await this.crashAndRecover(point, recipe(point, random), this.owed(), random)
      return null
    } catch (error) {
      if (!(error instanceof CrashFailure)) throw error
      return { trace: this.trace, state: number, invariant: error.invariant, message: error.message }
    }
  }

  private owed(): Owed[] {
    return [...this.workload.logs.values()].map(owedBy)
  }

  /** Recovery, then by chance: recovery again, a crash during recovery, or appends and another crash. */
  private async crashAndRecover(
    point: CrashPoint,
    image: VolumeImage,
    owed: readonly Owed[],
    random: SeededRandom,
  ): Promise<void> {
    const known = this.judged.get(image.hash())
    if (known !== undefined) {
      this.duplicates++
      if (known === null) return
      checkOwed(owed, known.logs)
      for (const one of owed) {
        const { topicId, votes } = one
        const found = known.votes.get(topicId) ?? null
        checkVote(topicId, votes, found)
        checkHadLog(one, found, known.hadLogs.has(topicId))
      }
      return
    }
    const second = random.integer(0, 11)
    if (second <= 1) {
      const { logs, image: recovered } = await this.judge(image, owed)
      assertSame(logs, (await recoverAndCheck(recovered, owed)).logs)
    } else if (second <= 3) {
      const { trace } = await this.judge(image, owed, { traced: true })
      const durable = new DurableState(image, this.model)
      await this.judgeNew(crashed(durable, trace!, random.fraction(), random), owed)
    } else if (second <= 5) {
      const goOn = { batches: random.pick([1, 1, 2, 3, 12]), random }
      const recovered = await this.judge(image, owed, { traced: true, goOn })
      await this.crashLater(recovered, new DurableState(image, this.model), owed, random)
    } else if (second === 6) {
      await this.judge(image, owed)
      for (let i = 0; i < ROTTEN_IMAGES; i++) {
        const rotten = rotSector(image.copy(), point.durable, random)
        if (rotten !== null) await this.judgeNew(rotten, owed, true)
      }
    } else if (second === 7) {
      await this.judge(image, owed)
      const durable = point.durable.afterKill(random)
      const goOn = { batches: random.pick([0, 0, 1, 3]), random }
      const recovered = await recoverAndCheck(durable.visible(), owed, { traced: true, goOn })
      await this.crashLater(recovered, durable, owed, random)
    } else await this.judge(image, owed)
  }

  /** A power cut some time after a recovery, while its logs go on: it has promised what it found. */
  private async crashLater(
    { trace, logs, wentOn, votesAfter }: Recovered,
    durable: DurableState,
    owed: readonly Owed[],
    random: SeededRandom,
  ): Promise<void> {
    const opened = trace!.events.findIndex(({ kind }) => kind === 'note')
    const least = opened < 0 ? 1 : opened / trace!.events.length
    const part = random.chance(0.5) ? 1 : random.between(least, 1)
    const image = crashed(durable, trace!, part, random)
    const absent = owed
      .filter(({ topicId }) => !logs.has(topicId))
      .map(({ topicId }) => nothingOwed(topicId, votesAfter.get(topicId)!))
    await this.judgeNew(image, [...wentOn.map(owedBy), ...absent])
  }

  private async judge(image: VolumeImage, owed: readonly Owed[], options: RecoverOptions = {}) {
    const recovered = await recoverAndCheck(image, owed, options)
    const hash = image.hash()
    this.judged.set(hash, recovered)
    this.images.push(hash)
    return recovered
  }

  /** An image that comes of another one: what is owed of it does not follow from the trace. */
  private async judgeNew(image: VolumeImage, owed: readonly Owed[], rotten = false): Promise<void> {
    await recoverAndCheck(image, owed, { rotten })
    const hash = image.hash()
    if (this.judged.has(hash)) this.duplicates++
    else {
      this.judged.set(hash, null)
      this.images.push(hash)
    }
  }
}

function owedBy(log: TracedLog): Owed {
  const { key, history, given, kept, givenWhenFlushed, committed, startOffset, dropAsked, dropped } = log
  const votes = { ...log.votes }
  const held = { history, given, kept, givenWhenFlushed, committed, startOffset }
  return { topicId: key.topicId, ...held, dropAsked, dropped, votes }
}

/** A log that was not there: it may come up empty, and nothing else. */
function nothingOwed(topicId: number, votes: OwedVotes): Owed {
  return {
    topicId,
    history: [],
    given: 0,
    kept: 0,
    givenWhenFlushed: [],
    committed: 0,
    startOffset: 0,
    dropAsked: true,
    dropped: false,
    votes,
  }
}

function assertSame(first: RecoveredLogs, second: RecoveredLogs): void {
  for (const [topicId, { batches, end }] of first) {
    const again = second.get(topicId)?.batches
    // A log that never held anything may have given back all its slots, and is not there the next time.
    if (again === undefined && end.index === 0) continue
    if (again?.length === batches.length && again[0] === batches[0]) continue
    throw new CrashFailure('not idempotent', `log ${topicId} had ${batches.length} batches when first recovered`)
  }
}

/** A crash after some part of the operations: of a recovery, or of what was appended behind it. */
function crashed(durable: DurableState, trace: DiskTrace, part: number, random: SeededRandom): VolumeImage {
  for (const event of trace.events.slice(0, Math.ceil(part * trace.events.length))) {
    if (event.kind === 'note') event.apply()
    else durable.step(event)
  }
  return sampleState(new CrashPoint(durable), random)
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
