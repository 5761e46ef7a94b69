// Standard output and standard error of a command: data on the one, words on the other, and back-pressure.
import { once } from 'node:events'
import type { WriteStream } from 'node:tty'

/** Text is gathered up to this many characters before it goes to the pipe. */
const GATHER_CHARACTERS = 64 * 1024

/** Data for other programs. `write` may be called as often as one likes; awaiting it holds the caller to the pipe's pace. */
export class DataOutput {
  #gathered = ''
  #flushIsDue = false

  constructor(readonly stream: NodeJS.WriteStream | WriteStream = process.stdout) {}

  get isTerminal(): boolean {
    return this.stream.isTTY === true
  }

  /**
   * @param latin1 one character a byte.
   * @returns a promise to wait for before more is written when the pipe is full, else null.
   */
  writeLatin1(latin1: string): Promise<void> | null {
    this.#gathered += latin1
    if (this.#gathered.length >= GATHER_CHARACTERS) return this.#flush()
    if (!this.#flushIsDue) {
      this.#flushIsDue = true
      // Whatever is gathered when the process is about to wait goes out: a follower sees each record at once.
      setImmediate(() => void this.#flush())
    }
    return null
  }

  writeText(text: string): Promise<void> | null {
    return this.writeLatin1(Buffer.from(text, 'utf8').toString('latin1'))
  }

  /** Everything written so far has been taken by the pipe. */
  async end(): Promise<void> {
    await this.#flush()
    if (this.stream.writableLength > 0) await once(this.stream, 'drain')
  }

  #flush(): Promise<void> | null {
    this.#flushIsDue = false
    if (this.#gathered === '') return null
    const bytes = Buffer.from(this.#gathered, 'latin1')
    this.#gathered = ''
    return this.stream.write(bytes) ? null : once(this.stream, 'drain').then(() => undefined)
  }
}

/** Words for people: errors, counts, progress, questions. */
export class Messages {
  #progressIsShown = false
  #progressAtMs = 0

  constructor(readonly stream: NodeJS.WriteStream | WriteStream = process.stderr) {}

  line(text: string): void {
    this.#clearProgress()
    this.stream.write(`${text}\n`)
  }

  /** Redraws one line at most ten times a second; nothing unless a person is watching. */
  progress(text: () => string): void {
    const nowMs = performance.now()
    if (this.stream.isTTY !== true || nowMs - this.#progressAtMs < 100) return
    this.#progressAtMs = nowMs
    this.#progressIsShown = true
    this.stream.write(`\r\u001b[K${text()}`)
  }

  #clearProgress(): void {
    if (!this.#progressIsShown) return
    this.#progressIsShown = false
    this.stream.write('\r\u001b[K')
  }
}

/** Whether a stream gets colour: a terminal, and NO_COLOR not set (https://no-color.org). */
export function usesColor(stream: { readonly isTTY?: boolean }, environment: NodeJS.ProcessEnv): boolean {
  return stream.isTTY === true && (environment.NO_COLOR === undefined || environment.NO_COLOR === '')
}
