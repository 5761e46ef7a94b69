// Reads that wait until it is certain that nothing committed before them is missing here.
import { StorageError } from '../storage/log-store.js'

interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
}

export class ReadBarriers {
  readonly #waiting = new Map<number, Waiting>()

  wait(read: number): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.set(read, { resolve, reject }))
  }

  ready(read: number): void {
    this.#waiting.get(read)?.resolve()
    this.#waiting.delete(read)
  }

  refuse(read: number): void {
    const waiting = this.#waiting.get(read)
    this.#waiting.delete(read)
    waiting?.reject(notLeading())
  }

  refuseAll(): void {
    for (const read of [...this.#waiting.keys()]) this.refuse(read)
  }
}

/** What becomes of a read where another node leads, or nobody does. */
export function notLeading(): StorageError {
  return new StorageError('CLOSED', 'the replica does not lead any more')
}
