// Those who wait for append memory, slots or disk space: woken together, since any of them may have come free.
import type { Clock } from '../environment.js'

export class Room {
  private waiting: (() => void)[] = []
  private waking = false

  constructor(private readonly clock: Clock) {}

  wait(callback: () => void): void {
    this.waiting.push(callback)
  }

  /** Calls everybody back at the end of this turn, however often it is called. */
  wake(): void {
    if (this.waking || this.waiting.length === 0) return
    this.waking = true
    this.clock.defer(() => {
      this.waking = false
      const waiting = this.waiting
      this.waiting = []
      for (const callback of waiting) callback()
    })
  }
}
