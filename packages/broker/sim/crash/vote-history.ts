// The votes of one group: what was given to the store, how much of it was promised, and whether a recovery kept to that.
import type { HardState } from '#src/raft/raft-types.js'
import type { SeededRandom } from '../random.js'
import { CrashFailure } from './crash-failure.js'

/** What the votes of a group owe at the moment of a crash. */
export interface OwedVotes {
  readonly history: readonly HardState[]
  /** So many of them were given, and may be there. */
  readonly given: number
  /** So many of them were saved: nothing older may be there. */
  readonly kept: number
}

export class TracedVotes implements OwedVotes {
  readonly history: HardState[] = []
  given = 0
  kept = 0

  /** A later term, or a vote in the present one. */
  draw(random: SeededRandom): HardState {
    const { term, votedFor } = this.history.at(-1) ?? { term: 0, votedFor: 0 }
    if (term > 0 && votedFor === 0 && random.chance(0.6)) return { term, votedFor: random.integer(1, 3) }
    return { term: term + random.integer(1, 2), votedFor: random.pick([0, 1, 2, 3]) }
  }

  /** What was found is what is owed from now on. */
  static found({ history }: OwedVotes, count: number): TracedVotes {
    const votes = new TracedVotes()
    votes.history.push(...history.slice(0, count))
    votes.given = votes.kept = count
    return votes
  }
}

export type FoundVote = HardState | 'lost' | null

/** Both copies are never spoilt at once here, so nothing may be lost whatever rots. @returns how many of the votes are there. */
export function checkVote(topicId: number, { history, given, kept }: OwedVotes, found: FoundVote): number {
  const name = `the vote of log ${topicId}`
  if (found === 'lost') throw new CrashFailure('vote', `${name} passes for lost, ${kept} of ${given} were saved`)
  const count = found === null ? 0 : history.findIndex((one) => isSame(one, found)) + 1
  if (found !== null && (count === 0 || count > given)) {
    throw new CrashFailure('vote', `${name} is ${found.votedFor} in term ${found.term}, which nobody gave`)
  }
  if (count < kept) throw new CrashFailure('vote', `${name} is the one number ${count}, and number ${kept} was saved`)
  return count
}

/** A log that has promised something must not pass for one that never was, should it ever not be found. */
export function checkHadLog(
  { topicId, kept }: { readonly topicId: number; readonly kept: number },
  found: FoundVote,
  had: boolean,
): void {
  if (found === null || kept === 0 || had) return
  throw new CrashFailure(
    'vote',
    `of log ${topicId}, which promised ${kept} operations, the votes say that it never was`,
  )
}

function isSame(a: HardState, b: HardState): boolean {
  return a.term === b.term && a.votedFor === b.votedFor
}
