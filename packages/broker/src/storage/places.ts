// Lets only so many pieces of work run at the same time; the others wait in the order they came.
import { Fifo } from '../fifo.js'

export class Places {
  readonly #waiting = new Fifo<() => void>()

  /** @param free how many may run at the same time. */
  constructor(private free: number) {}

  async run<T>(work: () => Promise<T>): Promise<T> {
    if (this.free > 0) this.free--
    else await new Promise<void>((resolve) => this.#waiting.push(resolve))
    try {
      return await work()
    } finally {
      // Whoever waits takes over the place.
      const next = this.#waiting.shift()
      if (next === undefined) this.free++
      else next()
    }
  }
}
