// What the core knows of the log: where terms begin, configurations, and how far it reaches. It is ahead of the log itself,
// whose owner carries out appends, cuts and installs one after the other.
import { assert } from '@millrace/protocol'
import type { Configuration, Entry, PlacedConfiguration, RaftOptions, RaftStart, TermRun } from './raft-types.js'

interface Cut {
  readonly sequence: number
  readonly lastIndex: number
}

export class LogShadow {
  start: RaftStart
  lastIndex: number
  /** Everything up to here is durable, as the log stands now. */
  durableIndex: number
  /** An install that is not durable yet; nothing counts as durable until it is. */
  installing: RaftStart | null = null
  /** Invariant: ascending in term and index; the first begins at `start.index` unless the log is empty. */
  private readonly runs: TermRun[]
  private readonly configurations: PlacedConfiguration[]
  /** Cuts that the owner of the log has not reported yet. */
  private readonly cuts: Cut[] = []
  private cutSequence = 0

  constructor(options: Pick<RaftOptions, 'start' | 'terms' | 'lastIndex' | 'durableIndex' | 'configurations'>) {
    this.start = options.start
    this.lastIndex = options.lastIndex
    this.durableIndex = options.durableIndex
    this.runs = [...options.terms]
    this.configurations = [...options.configurations]
    assert(this.start.index > 0, 'indexes count from 1')
    assert(this.lastIndex >= this.start.index - 1, 'a log ends at its start or later')
    assert(this.durableIndex <= this.lastIndex, 'nothing is durable above the end of the log')
    const first = this.runs[0]
    if (this.lastIndex < this.start.index) assert(first === undefined, 'an empty log has no terms')
    else assert(first?.firstIndex === this.start.index, 'the terms of a log begin at its start')
    for (const [at, run] of this.runs.entries()) {
      const before = this.runs[at - 1]
      assert(run.firstIndex <= this.lastIndex, 'terms begin within the log')
      assert(run.term >= (before?.term ?? this.start.previousTerm), 'terms never go down in a log')
      assert(before === undefined || run.firstIndex > before.firstIndex, 'terms are in the order of the log')
    }
  }

  get lastTerm(): number {
    const last = this.runs[this.runs.length - 1]
    return last === undefined ? this.start.previousTerm : last.term
  }

  /** In force: the newest in the log, committed or not (dissertation, 4.1). */
  get configuration(): Configuration {
    const last = this.configurations[this.configurations.length - 1]
    return last === undefined ? this.start.configuration : last.configuration
  }

  /** The one that is in force again if the newest is cut off. */
  get previousConfiguration(): Configuration {
    const previous = this.configurations[this.configurations.length - 2]
    return previous === undefined ? this.start.configuration : previous.configuration
  }

  /** Of the entry that brought the configuration in force; the one before the start if that is older. */
  get configurationIndex(): number {
    const last = this.configurations[this.configurations.length - 1]
    return last === undefined ? this.start.index - 1 : last.index
  }

  /** Where configurations above an index came, in order. */
  configurationsAbove(index: number): readonly number[] {
    return this.configurations.map((placed) => placed.index).filter((at) => at > index)
  }

  /** 0 when the log does not know: before the entry that precedes its start, or above its end. */
  termAt(index: number): number {
    if (index > this.lastIndex || index < this.start.index - 1) return 0
    if (index === this.start.index - 1) return this.start.previousTerm
    const run = this.runs[this.runAt(index)]
    assert(run !== undefined, 'every entry of the log has a term')
    return run.term
  }

  /**
   * The highest index up to `index` whose term is at most `term`: no entry between the two can agree with a log that has
   * `term` there. Below the entry before the start when not even that one is old enough: what comes before it is gone.
   */
  lastIndexOfTerm(index: number, term: number): number {
    const floor = this.start.index - 1
    let candidate = Math.min(index, this.lastIndex)
    while (candidate > floor) {
      const run = this.runs[this.runAt(candidate)]
      assert(run !== undefined, 'every entry of the log has a term')
      if (run.term <= term) return candidate
      candidate = run.firstIndex - 1
    }
    return candidate === floor && this.start.previousTerm > term ? floor - 1 : candidate
  }

  append(entries: readonly Entry[]): void {
    for (const entry of entries) {
      this.lastIndex++
      const last = this.runs[this.runs.length - 1]
      assert(entry.term >= this.lastTerm, 'terms never go down in a log')
      if (last === undefined || last.term !== entry.term)
        this.runs.push({ term: entry.term, firstIndex: this.lastIndex })
      if (entry.configuration !== null) {
        this.configurations.push({ index: this.lastIndex, configuration: entry.configuration })
      }
    }
  }

  /** Takes back the configurations of what is cut off, too. @returns the sequence by which the cut is reported. */
  truncate(lastIndex: number): number {
    assert(lastIndex < this.lastIndex && lastIndex >= this.start.index - 1, 'a cut is within the log')
    this.lastIndex = lastIndex
    while ((this.runs[this.runs.length - 1]?.firstIndex ?? 0) > lastIndex) this.runs.pop()
    while ((this.configurations[this.configurations.length - 1]?.index ?? 0) > lastIndex) this.configurations.pop()
    this.durableIndex = Math.min(this.durableIndex, lastIndex)
    this.cuts.push({ sequence: ++this.cutSequence, lastIndex })
    return this.cutSequence
  }

  truncated(sequence: number): void {
    while ((this.cuts[0]?.sequence ?? Number.POSITIVE_INFINITY) <= sequence) this.cuts.shift()
  }

  /**
   * The write of the entry at `index` is durable, if that is still the entry which is here. Until a cut is carried out the
   * log still has its old end, so that its reports say nothing of what comes behind the cut.
   * @returns whether more is durable than before.
   */
  durable(index: number, term: number): boolean {
    if (this.installing !== null || index <= this.durableIndex || index > this.lastIndex) return false
    if (this.termAt(index) !== term) return false
    let highest = index
    for (const cut of this.cuts) highest = Math.min(highest, cut.lastIndex)
    if (highest <= this.durableIndex) return false
    this.durableIndex = highest
    return true
  }

  install(start: RaftStart): void {
    this.start = start
    this.lastIndex = start.index - 1
    this.durableIndex = 0
    this.runs.length = 0
    this.configurations.length = 0
    this.cuts.length = 0
    this.installing = start
  }

  /** @returns whether it is the install that is awaited; a newer one may have taken its place. */
  installed(start: RaftStart): boolean {
    if (this.installing === null || this.installing.index !== start.index) return false
    this.durableIndex = this.installing.index - 1
    this.installing = null
    return true
  }

  /** Entries before `start` are gone; the configuration that the last of them left in force stays. */
  moveStart(start: Omit<RaftStart, 'configuration'>): void {
    if (start.index <= this.start.index) return
    assert(start.index <= this.lastIndex + 1, 'a log begins at its end or earlier')
    assert(start.previousTerm === this.termAt(start.index - 1), 'the new start names the entry before it')
    const kept = start.index > this.lastIndex ? this.runs.length : this.runAt(start.index)
    this.runs.splice(0, kept)
    const first = this.runs[0]
    if (first !== undefined) this.runs[0] = { term: first.term, firstIndex: start.index }
    let { configuration } = this.start
    for (let first = this.configurations[0]; first !== undefined && first.index < start.index; ) {
      configuration = first.configuration
      this.configurations.shift()
      first = this.configurations[0]
    }
    this.start = { index: start.index, previousTerm: start.previousTerm, configuration }
  }

  private runAt(index: number): number {
    let low = 0
    let high = this.runs.length - 1
    while (low < high) {
      const middle = (low + high + 1) >> 1
      if ((this.runs[middle]?.firstIndex ?? 0) <= index) low = middle
      else high = middle - 1
    }
    return low
  }
}
