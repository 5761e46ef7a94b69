// The bench's side of a client's process: one order at a time.
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import { fileURLToPath } from 'node:url'
import type { Addresses, Answer, ClientName, Figures, Order } from './contestant.js'
import type { ClientSoftware } from './software.js'

const PROGRAM = fileURLToPath(new URL('./client-process.js', import.meta.url))

export class ClientDoor {
  readonly name: ClientName
  readonly #child: ChildProcess

  private constructor(name: ClientName, child: ChildProcess) {
    this.name = name
    this.#child = child
  }

  static async open(name: ClientName, addresses: Addresses, software: ClientSoftware | null): Promise<ClientDoor> {
    const profiling = process.execArgv.filter((flag) => flag.startsWith('--cpu-prof'))
    const execPath = software?.node ?? process.execPath
    const child = fork(PROGRAM, [], { execPath, execArgv: ['--expose-gc', ...profiling], serialization: 'json' })
    const door = new ClientDoor(name, child)
    await door.ask({ kind: 'open', client: name, addresses, loader: software?.loader ?? '' })
    return door
  }

  /** @throws Error with what the client said, when the order failed or its process ended. */
  async ask(order: Order): Promise<Figures> {
    const child = this.#child
    const abort = new AbortController()
    const answered = once(child, 'message', { signal: abort.signal })
    const ended = once(child, 'exit', { signal: abort.signal })
    // Whichever comes second is given up below; the first one is waited for.
    answered.catch(() => {})
    ended.catch(() => {})
    try {
      child.send(order)
      const [answer] = (await Promise.race([answered, ended])) as [Answer | number | null]
      if (typeof answer !== 'object' || answer === null) throw new Error(`its process ended with ${String(answer)}`)
      if ('error' in answer) throw new Error(answer.error)
      return answer.figures
    } catch (cause) {
      const what = cause instanceof Error ? cause.message : String(cause)
      throw new Error(`${this.name}, ${JSON.stringify(order)}: ${what}`, { cause })
    } finally {
      abort.abort()
    }
  }

  async close(): Promise<void> {
    const child = this.#child
    if (child.exitCode !== null || child.signalCode !== null || !child.connected) return
    const ended = once(child, 'exit')
    await this.ask({ kind: 'close' })
    await ended
  }

  /** For when something went wrong. */
  kill(): void {
    this.#child.kill('SIGKILL')
  }
}
