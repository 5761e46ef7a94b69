// How far the work on one partition of a group has come: everything below its position is finished, whatever order the
// claims on its records are settled in.

/** Where to go on: the next record to work on, and the term of the record before it. */
export interface Position {
  readonly offset: number
  /** 0 when no record was read before. */
  readonly term: number
}

/** A claim as far as progress is concerned. */
export interface TrackedClaim {
  readonly offset: number
  /** Behind the last record it stands for. */
  readonly endOffset: number
  readonly termBefore: number
  /** Its work is done; what was let go of never is. */
  isSettled: boolean
}

const COMPACT_AT = 1_024

export class PartitionProgress {
  /** In the order of their offsets, from `#head` on; the first one is unsettled, unless there is none. */
  #claims: TrackedClaim[] = []
  #head = 0
  /** Claims that are held, whether work on them has begun or not. */
  inFlight = 0
  /** Called when the last claim in flight is over. */
  onIdle: (() => void) | null = null
  /** Records below were claimed by somebody. */
  claimedBelow = 0

  add(claim: TrackedClaim): void {
    this.inFlight++
    this.hold(claim)
  }

  /** Never passes this record, which nobody claimed and nobody finished. */
  hold(claim: TrackedClaim): void {
    this.#claims.push(claim)
    this.claimedBelow = Math.max(this.claimedBelow, claim.endOffset)
  }

  /** A claim is over: it was settled or let go of. */
  over(): void {
    this.#advance()
    if (--this.inFlight === 0) this.onIdle?.()
  }

  /** Of the first record that is claimed and unsettled; null when there is none. */
  get firstUnsettled(): Position | null {
    const first = this.#claims[this.#head]
    return first === undefined ? null : { offset: first.offset, term: first.termBefore }
  }

  #advance(): void {
    while (this.#claims[this.#head]?.isSettled) this.#head++
    if (this.#head < COMPACT_AT && this.#head < this.#claims.length) return
    this.#claims = this.#claims.slice(this.#head)
    this.#head = 0
  }
}
