// What one sender has sealed is taken once: a window over its last counters, of its newest process (as RFC 4303, 3.4.3, has it).

const WINDOW = 1_024

export class ReplayWindow {
  private bootId = 0
  private highest = 0
  /** Whether a counter of the last WINDOW was seen, at its place modulo WINDOW. */
  private readonly seen = new Uint8Array(WINDOW)

  isFresh(bootId: number, counter: number): boolean {
    if (bootId !== this.bootId) return bootId > this.bootId
    if (counter > this.highest) return true
    return counter > this.highest - WINDOW && this.seen[counter % WINDOW] === 0
  }

  /** Only once it is known that the sender has sealed it: else anybody could shut the sender out. */
  accept(bootId: number, counter: number): void {
    if (bootId > this.bootId) {
      this.bootId = bootId
      this.highest = counter
      this.seen.fill(0)
    } else if (counter > this.highest) {
      const skipped = Math.min(WINDOW, counter - this.highest)
      for (let back = 0; back < skipped; back++) this.seen[(counter - back) % WINDOW] = 0
      this.highest = counter
    }
    this.seen[counter % WINDOW] = 1
  }
}
