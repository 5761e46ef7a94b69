// Lets operations pass until it closes, and closing waits for those that are inside.
import { fault } from './disk-fault.js'

/** Counts operations in flight, so that closing waits for them. */
export class Gate {
  private inFlight = 0
  private closed = false
  private readonly waiting: (() => void)[] = []

  constructor(private readonly what: string) {}

  async pass<T>(work: () => Promise<T>): Promise<T> {
    if (this.closed) throw fault('CLOSED', `${this.what} is closed`)
    this.inFlight++
    try {
      return await work()
    } finally {
      if (--this.inFlight === 0) for (const wake of this.waiting.splice(0)) wake()
    }
  }

  async close(): Promise<void> {
    this.closed = true
    if (this.inFlight > 0) await new Promise<void>((resolve) => this.waiting.push(resolve))
  }
}
