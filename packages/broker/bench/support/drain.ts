// Consumers in a process of their own, seen from the bench.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { DrainFigures, DrainOrder, DrainQuestion } from './drain-messages.js'
import { wait } from './produce-load.js'

const PROGRAM = fileURLToPath(new URL('./drain-process.js', import.meta.url))
const POLL_SECONDS = 0.02

export class Drain {
  readonly #child: ChildProcess
  /** Who has asked and not been answered: the process answers in order. */
  readonly #asked: { resolve(figures: DrainFigures): void; reject(error: Error): void }[] = []
  #ended: Error | null = null

  private constructor(child: ChildProcess) {
    this.#child = child
    child.on('message', (figures) => this.#asked.shift()?.resolve(figures as DrainFigures))
    child.on('exit', (code, signal) => {
      this.#ended = new Error(`the consumers ended with ${String(code ?? signal)}`)
      for (const { reject } of this.#asked.splice(0)) reject(this.#ended)
    })
  }

  static start(order: DrainOrder): Drain {
    const child = fork(PROGRAM, [], { execArgv: process.execArgv.filter((flag) => flag.startsWith('--cpu-prof')) })
    child.send(order)
    return new Drain(child)
  }

  get pid(): number {
    return this.#child.pid!
  }

  /** What was consumed since the beginning or the last `restart`. */
  figures(): Promise<DrainFigures> {
    return this.#ask('figures')
  }

  /** The same, and begins anew. */
  restart(): Promise<DrainFigures> {
    return this.#ask('restart')
  }

  /** Resolves when so many records have been consumed. */
  async until(records: number): Promise<DrainFigures> {
    while (true) {
      const figures = await this.figures()
      if (figures.records >= records) return figures
      await wait(POLL_SECONDS)
    }
  }

  #ask(question: DrainQuestion): Promise<DrainFigures> {
    return new Promise((resolve, reject) => {
      if (this.#ended !== null) {
        reject(this.#ended)
        return
      }
      this.#asked.push({ resolve, reject })
      this.#child.send(question)
    })
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.send('stop' satisfies DrainQuestion)
    await exited
  }
}
