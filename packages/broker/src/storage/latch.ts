// The latch of a volume: after the first failed write or flush nothing more is written to it.
import { StorageError } from './log-store.js'

/**
 * After a failed flush the kernel may report later ones as good although bytes are gone (Rebello et al., ATC 2020), so
 * nothing is ever tried again: the volume has to be opened anew, which reads what is really there.
 */
export class Latch {
  failure: StorageError | null = null
  private readonly listeners = new Set<(failure: StorageError) => void>()

  /** Calls back once if the latch falls. */
  listen(listener: (failure: StorageError) => void): void {
    this.listeners.add(listener)
  }

  ignore(listener: (failure: StorageError) => void): void {
    this.listeners.delete(listener)
  }

  /** Falls, unless it has already. @returns the failure it fell with. */
  fail(doing: string, cause: unknown): StorageError {
    if (this.failure !== null) return this.failure
    const reason = cause instanceof Error ? cause.message : String(cause)
    const failure = new StorageError('STORAGE_FAILED', `${doing} failed, nothing more is written: ${reason}`, { cause })
    this.failure = failure
    for (const listener of [...this.listeners]) listener(failure)
    this.listeners.clear()
    return failure
  }
}
