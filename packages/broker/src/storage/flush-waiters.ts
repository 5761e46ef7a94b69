// Those who wait until a log is flushed up to some batch, or altogether.
import type { StorageError } from './log-store.js'

interface FlushWaiter {
  readonly index: number
  readonly resolve: () => void
  readonly reject: (failure: StorageError) => void
}

/** How far a log is. */
export interface FlushProgress {
  readonly flushedIndex: number
  /** Every group, those without batches too, is flushed. */
  readonly isIdle: boolean
}

export class FlushWaiters {
  private waiters: FlushWaiter[] = []

  /** Resolves when everything up to a batch is flushed, or nothing is under way; infinity waits for the latter. */
  wait(index: number): Promise<void> {
    return new Promise((resolve, reject) => this.waiters.push({ index, resolve, reject }))
  }

  settle({ flushedIndex, isIdle }: FlushProgress): void {
    if (this.waiters.length === 0) return
    const due = this.waiters.filter(({ index }) => index <= flushedIndex || isIdle)
    this.waiters = this.waiters.filter((waiter) => !due.includes(waiter))
    for (const { resolve } of due) resolve()
  }

  reject(failure: StorageError): void {
    for (const { reject } of this.waiters.splice(0)) reject(failure)
  }
}
