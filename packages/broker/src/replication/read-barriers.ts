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

  settle(read: number, isReady: boolean): void {
    const waiting = this.#waiting.get(read)
    this.#waiting.delete(read)
    if (isReady) waiting?.resolve()
    else waiting?.reject(notLeading())
  }

  refuseAll(): void {
    for (const read of [...this.#waiting.keys()]) this.settle(read, false)
  }
}

/** What becomes of a read where another node leads, or nobody does. */
export function notLeading(): StorageError {
  return new StorageError('CLOSED', 'the replica does not lead any more')
}
