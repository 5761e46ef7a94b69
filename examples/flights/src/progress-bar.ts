// A progress bar, drawn over itself on a terminal and as one line each tenth elsewhere.

const WIDTH = 40
const REDRAW_MS = 100

export class ProgressBar {
  readonly #total: number
  #shownTenth = 0
  #drawnAtMs = 0

  constructor(total: number) {
    this.#total = total
  }

  show(done: number, acknowledged: number): void {
    const fraction = done / this.#total
    if (process.stdout.isTTY) {
      const nowMs = performance.now()
      if (nowMs - this.#drawnAtMs < REDRAW_MS && done < this.#total) return
      this.#drawnAtMs = nowMs
      const full = Math.round(WIDTH * fraction)
      process.stdout.write(
        `\r\u001b[2K   [${'#'.repeat(full)}${'.'.repeat(WIDTH - full)}] ${this.#words(done, acknowledged)}`,
      )
    } else if (Math.floor(fraction * 10) > this.#shownTenth) {
      this.#shownTenth = Math.floor(fraction * 10)
      console.log(`   ${this.#words(done, acknowledged)}`)
    }
  }

  /** Says something above the bar. */
  say(text: string): void {
    console.log(`${process.stdout.isTTY ? '\r\u001b[2K' : ''}   ${text}`)
  }

  end(): void {
    if (process.stdout.isTTY) process.stdout.write('\n')
  }

  #words(done: number, acknowledged: number): string {
    const count = (records: number): string => records.toLocaleString('en-US')
    return `${((100 * done) / this.#total).toFixed(0).padStart(3)} %  ${count(acknowledged)} acknowledged, ${count(done)} received`
  }
}
