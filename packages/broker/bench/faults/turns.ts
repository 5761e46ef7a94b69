// Work that must not meet other work of the same kind: one after the other.

export class Turns {
  private last: Promise<unknown> = Promise.resolve()

  /** Begins when everything that asked before has ended, however it has. */
  take<T>(work: () => Promise<T>): Promise<T> {
    const mine = this.last.then(work)
    // What becomes of it is told to whoever took the turn.
    this.last = mine.catch(() => undefined)
    return mine
  }
}
