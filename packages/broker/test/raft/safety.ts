// What must hold whatever happens: the safety properties of Figure 3 of the Raft paper, checked over all nodes of a model.
import type { NodeId } from '#src/raft/raft-types.js'
import { entryAt, lastIndexOf, type ModelNode, type StoredLog, type TestEntry } from './model-node.js'

export class SafetyViolation extends Error {
  override readonly name = 'SafetyViolation'
  readonly property: string

  constructor(property: string, detail: string) {
    super(`${property}: ${detail}`)
    this.property = property
  }
}

export class Safety {
  private readonly leaders = new Map<number, NodeId>()
  /** By index: the entry that was ever committed there. */
  private readonly committed: (TestEntry | undefined)[] = []
  /** The term in which that was. */
  private readonly committedIn: number[] = []

  /** All that is remembered, in short. */
  describe(): string {
    const entries = this.committed.map((entry, at) => `${entry?.term}${entry?.value}${this.committedIn[at]}`)
    return `${[...this.leaders].join()}/${entries.join()}`
  }

  get committedCount(): number {
    return Math.max(0, this.committed.length - 1)
  }

  /**
   * Election safety: at most one leader for each term. Leader completeness: it has everything that was committed in the terms
   * before, but not of later ones: a vote may be long on its way.
   */
  becameLeader(node: ModelNode, log: StoredLog): void {
    const { term, nodeId } = node.running
    const other = this.leaders.get(term)
    if (other !== undefined && other !== nodeId) {
      throw new SafetyViolation('election safety', `${other} and ${nodeId} lead term ${term}`)
    }
    this.leaders.set(term, nodeId)
    for (let index = log.start.index; index < this.committed.length; index++) {
      const entry = this.committed[index]
      const isLater = this.committedIn[index]! >= term
      if (entry === undefined || isLater || isSame(entry, entryAt(log, index))) continue
      throw new SafetyViolation(
        'leader completeness',
        `leader ${nodeId} of term ${term} lacks committed entry ${index}`,
      )
    }
  }

  /** State machine safety: no two nodes ever have different entries committed at one index. */
  commit(node: ModelNode, log: StoredLog, index: number): void {
    for (let at = log.start.index; at <= index; at++) {
      const entry = entryAt(log, at)
      if (entry === undefined)
        throw new SafetyViolation('state machine safety', `${node.nodeId} commits ${at}, which it lacks`)
      const known = this.committed[at]
      if (known !== undefined && !isSame(known, entry)) {
        throw new SafetyViolation(
          'state machine safety',
          `${node.nodeId} commits ${at} as ${entry.value} of term ${entry.term}, and it was ${known.value} of term ${known.term}`,
        )
      }
      this.committed[at] = entry
      this.committedIn[at] ??= node.running.term
    }
  }

  /** Log matching: logs that agree at an index agree everywhere before it. */
  logMatching(logs: readonly (readonly [NodeId, StoredLog])[]): void {
    for (const [at, [leftId, left]] of logs.entries()) {
      for (const [rightId, right] of logs.slice(at + 1)) {
        let agree = false
        const lowest = Math.max(left.start.index, right.start.index)
        for (let index = Math.min(lastIndexOf(left), lastIndexOf(right)); index >= lowest; index--) {
          const mine = entryAt(left, index)
          const theirs = entryAt(right, index)
          if (mine?.term === theirs?.term && !isSame(mine, theirs)) {
            throw new SafetyViolation(
              'log matching',
              `${leftId} and ${rightId} have different entries of one term at ${index}`,
            )
          }
          if (mine?.term === theirs?.term) agree = true
          else if (agree)
            throw new SafetyViolation('log matching', `${leftId} and ${rightId} differ at ${index}, and not above`)
        }
      }
    }
  }
}

function isSame(left: TestEntry | undefined, right: TestEntry | undefined): boolean {
  return left?.term === right?.term && left?.value === right?.value
}
