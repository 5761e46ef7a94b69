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

  private constructor(child: ChildProcess) {
    this.#child = child
  }

  static start(order: DrainOrder): Drain {
    const child = fork(PROGRAM, [], { execArgv: process.execArgv.filter((flag) => flag.startsWith('--cpu-prof')) })
    child.send(order)
    return new Drain(child)
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

  async #ask(question: DrainQuestion): Promise<DrainFigures> {
    const answer = once(this.#child, 'message') as Promise<[DrainFigures]>
    const ended = once(this.#child, 'exit').then(([code]) => {
      throw new Error(`the consumers ended with ${String(code)}`)
    })
    ended.catch(() => {})
    this.#child.send(question)
    const [figures] = await Promise.race([answer, ended])
    return figures
  }

  async stop(): Promise<void> {
    if (this.#child.exitCode !== null) return
    const exited = once(this.#child, 'exit')
    this.#child.send('stop' satisfies DrainQuestion)
    await exited
  }
}
