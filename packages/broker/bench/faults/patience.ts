// Waiting for what a cluster that is being hurt does in its own time: without a limit while it is hurt, with one in peace.
import { setTimeout as sleep } from 'node:timers/promises'
import { mustBeMillraceError } from './fault-apps.js'

const PEACE_LIMIT_MS = 60_000
const POLL_MS = 200

export class Patience {
  private peaceAtMs = Number.POSITIVE_INFINITY

  /** From now on nothing is hurt, and nothing new is begun. */
  declarePeace(): void {
    this.peaceAtMs = Math.min(this.peaceAtMs, performance.now())
  }

  get isPeace(): boolean {
    return performance.now() >= this.peaceAtMs
  }

  /** Sleeps, not beyond the beginning of peace. */
  async pause(ms: number): Promise<void> {
    const endMs = performance.now() + ms
    while (!this.isPeace && performance.now() < endMs) await sleep(Math.min(POLL_MS, endMs - performance.now()))
  }

  /**
   * Tries until `attempt` returns something; what the client rejects with, and text that says what is missing, is not the
   * end of it. @throws Error when it takes too long in peace.
   */
  async until<T extends object>(what: string, attempt: () => Promise<T | string>): Promise<T> {
    const beganMs = performance.now()
    for (;;) {
      let missing: string
      try {
        const result = await attempt()
        if (typeof result !== 'string') return result
        missing = result
      } catch (error) {
        mustBeMillraceError(error)
        missing = error.message
      }
      const quietSinceMs = Math.max(beganMs, this.peaceAtMs)
      if (performance.now() > quietSinceMs + PEACE_LIMIT_MS) {
        throw new Error(`${what} has not come about in ${PEACE_LIMIT_MS} ms of peace: ${missing}`)
      }
      await sleep(POLL_MS)
    }
  }
}
