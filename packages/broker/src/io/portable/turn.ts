// The end of a turn of Node's event loop: deferred work runs there together, then corked streams are sent.

export interface TurnEndFlush {
  flushTurn(): void
}

/**
 * One `setImmediate` per turn, however many callbacks wait: it runs after the poll phase has handed out all input at
 * hand and before the loop polls again. What a deferred callback defers goes to the next turn, so that input cannot
 * be starved.
 */
export class Turn {
  private deferred: (() => void)[] = []
  private flushes: TurnEndFlush[] = []
  private scheduled = false

  defer(callback: () => void): void {
    this.deferred.push(callback)
    this.schedule()
  }

  /** Asks for one `flushTurn` after the deferred callbacks of this turn. */
  flushAtEnd(target: TurnEndFlush): void {
    this.flushes.push(target)
    this.schedule()
  }

  private schedule(): void {
    if (this.scheduled) return
    this.scheduled = true
    setImmediate(() => this.run())
  }

  private run(): void {
    this.scheduled = false
    const callbacks = this.deferred
    this.deferred = []
    let next = 0
    try {
      while (next < callbacks.length) callbacks[next++]!()
    } finally {
      // A callback that throws is a bug that ends the process; until then nobody else's work is lost.
      for (; next < callbacks.length; next++) this.defer(callbacks[next]!)
      const flushes = this.flushes
      this.flushes = []
      for (const target of flushes) target.flushTurn()
    }
  }
}
