// Searches traces in worker processes and adds up what they find, in the order of the traces: the same whatever the
// number of workers.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { CrashInvariant } from './crash-failure.js'
import type { FoundFailure, SearchResult } from './crash-search.js'

const WORKER = fileURLToPath(new URL('./crash-worker.js', import.meta.url))
const MAX_FAILURES = 10
/** A worker has its next trace at hand when it is done with one. */
const TRACES_AT_HAND = 2
/** Sets hold at most 2^24 entries, so the images are spread over some. */
const IMAGE_SETS = 256

export interface CrashRun {
  /** Different crash images that were recovered from. */
  readonly states: number
  readonly duplicates: number
  readonly traces: number
  readonly failures: readonly FoundFailure[]
}

export interface CrashRunOptions {
  /** Ends with the trace that brings so many. */
  readonly states: number
  readonly first: number
  readonly workers: number
  /** What a worker runs. */
  readonly program?: string
  /** Ends with the first failure of this kind, whatever else was found. */
  readonly until?: CrashInvariant
  readonly onFailure?: (failure: FoundFailure) => void
}

class Tally {
  states = 0
  duplicates = 0
  traces = 0
  readonly failures: FoundFailure[] = []
  private readonly images = Array.from({ length: IMAGE_SETS }, () => new Set<number>())

  constructor(private readonly options: CrashRunOptions) {}

  get isOver(): boolean {
    const { states, until } = this.options
    if (this.states >= states) return true
    if (until === undefined) return this.failures.length >= MAX_FAILURES
    return this.failures.some(({ invariant }) => invariant === until)
  }

  add({ images, duplicates, failure }: SearchResult): void {
    this.traces++
    this.duplicates += duplicates
    for (const image of images) {
      const set = this.images[image % IMAGE_SETS]!
      const before = set.size
      set.add(image)
      if (set.size > before) this.states++
      else this.duplicates++
    }
    if (failure === null) return
    // The failing image was judged too.
    this.states++
    this.failures.push(failure)
    this.options.onFailure?.(failure)
  }
}

/** @throws Error when a worker ends before its time. */
export async function runCrashes(options: CrashRunOptions): Promise<CrashRun> {
  const tally = new Tally(options)
  const results = new Map<number, SearchResult>()
  const workers: ChildProcess[] = []
  let nextGiven = options.first
  let nextAdded = options.first
  try {
    await new Promise<void>((resolve, reject) => {
      const answered = (worker: ChildProcess, result: SearchResult): void => {
        results.set(result.trace, result)
        for (let found = results.get(nextAdded); found !== undefined && !tally.isOver; found = results.get(nextAdded)) {
          results.delete(nextAdded++)
          tally.add(found)
        }
        if (tally.isOver) resolve()
        else worker.send(nextGiven++)
      }
      for (let i = 0; i < options.workers; i++) {
        const worker = fork(options.program ?? WORKER, { serialization: 'advanced' })
        workers.push(worker)
        worker.on('message', (result: SearchResult) => answered(worker, result))
        worker.on('error', reject)
        worker.on('exit', (code) => reject(new Error(`a worker ended with ${code}`)))
        for (let at = 0; at < TRACES_AT_HAND; at++) worker.send(nextGiven++)
      }
    })
  } finally {
    await Promise.all(workers.map(ended))
  }
  return tally
}

async function ended(worker: ChildProcess): Promise<void> {
  worker.removeAllListeners('exit')
  worker.removeAllListeners('message')
  if (worker.exitCode !== null || worker.signalCode !== null) return
  const exit = once(worker, 'exit')
  worker.kill()
  await exit
}
