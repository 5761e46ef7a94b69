// What must be true of the work that members of a group do: an owner works on the records of a key one after the other in their
// order, gives a partition back when nothing of it is being worked on, begins nothing of what is not its own any more, and
// no record counts as done that nobody has finished.
import { type GroupViolation, type GroupWork, nameOfLife, type WorkStep } from './group-history.js'

/** @param work on one partition. */
export function* checkGroupWork(work: readonly GroupWork[], partition: number, end: number): Iterable<GroupViolation> {
  yield* checkFinished(work, partition, end)
  const lives = new Map<string, LifeOfWork>()
  for (const step of work) {
    const name = nameOfLife(step)
    const life = lives.get(name) ?? new LifeOfWork(name)
    lives.set(name, life)
    const violation = life.take(step)
    if (violation === null) continue
    yield violation
    return
  }
}

/** Being given to somebody who dies of it is not enough. */
function* checkFinished(work: readonly GroupWork[], partition: number, end: number): Iterable<GroupViolation> {
  const finished = new Set(work.flatMap((step) => (step.kind === 'ended' ? [step.offset] : [])))
  for (let offset = 0; offset < end; offset++) {
    if (finished.has(offset)) continue
    const message = `nobody finished the work on offset ${offset} of partition ${partition}, and it is committed`
    yield { invariant: 'group-unfinished', message }
    return
  }
}

/** The work of one owner, from assignment to loss. */
class LifeOfWork {
  private readonly open = new Map<number, string | null>()
  /** The last record of each key that work was begun on. */
  private readonly lastOf = new Map<string, number>()
  private isOver = false

  constructor(private readonly name: string) {}

  take(step: GroupWork): GroupViolation | null {
    if (step.kind === 'begun') return this.begin(step)
    if (step.kind === 'ended') {
      this.open.delete(step.offset)
      return null
    }
    this.isOver = true
    if (step.kind === 'lost' || this.open.size === 0) return null
    const offsets = [...this.open.keys()].join(', ')
    return { invariant: 'released-at-work', message: `${this.name}, gave it back while working on ${offsets}` }
  }

  private begin({ offset, key }: WorkStep): GroupViolation | null {
    const { name } = this
    if (this.isOver) {
      return { invariant: 'begun-after-loss', message: `${name}, began ${offset} when it was its own no more` }
    }
    const other = key === null ? undefined : [...this.open].find(([, open]) => open === key)?.[0]
    const before = key === null ? undefined : this.lastOf.get(key)
    this.open.set(offset, key)
    if (key !== null) this.lastOf.set(key, offset)
    if (other !== undefined) {
      const message = `${name}, began ${offset} of key ${key} while working on ${other} of that key`
      return { invariant: 'group-key-order', message }
    }
    if (before === undefined || offset > before) return null
    return { invariant: 'group-key-order', message: `${name}, began ${offset} of key ${key} after ${before}` }
  }
}
