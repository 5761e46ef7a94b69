// Those who wait for something that several may take: woken in the order they came.
import type { Clock, Timer } from '../environment.js'
import { Fifo } from '../fifo.js'

/** When so many in a row find that there is still nothing for them, the others are left waiting until the next wake. */
const DISAPPOINTMENTS = 8
/** They are not left for longer: somebody among them may need less than those before. */
const LOOK_AGAIN_MS = 10

export class Room {
  private readonly waiting = new Fifo<() => void>()
  private waking = false
  private again: Timer | null = null

  constructor(private readonly clock: Clock) {}

  /** A callback that finds nothing calls this again. */
  wait(callback: () => void): void {
    this.waiting.push(callback)
  }

  /** Calls back those who wait, at the end of this turn, however often it is called. */
  wake(): void {
    this.schedule(DISAPPOINTMENTS)
  }

  /** Calls back everybody: there is something else to know. */
  wakeAll(): void {
    this.schedule(Number.POSITIVE_INFINITY)
  }

  private schedule(disappointments: number): void {
    if (this.waiting.length === 0 || (this.waking && disappointments === DISAPPOINTMENTS)) return
    this.waking = true
    this.clock.defer(() => {
      this.waking = false
      this.run(disappointments)
    })
  }

  private run(disappointments: number): void {
    this.again?.cancel()
    this.again = null
    let left = disappointments
    for (let count = this.waiting.length; count > 0 && left > 0; count--) {
      const callback = this.waiting.shift()
      if (callback === undefined) return
      const before = this.waiting.length
      callback()
      left = this.waiting.length > before ? left - 1 : disappointments
    }
    if (left === 0) this.again = this.clock.timer(LOOK_AGAIN_MS, () => this.wake())
  }
}
