// Counts operations in flight, so that closing waits for them and nothing starts afterwards.
import assert from 'node:assert/strict'
import { DiskError } from '../../environment.js'

export class OperationGate {
  private inFlight = 0
  private closed = false
  private whenIdle: (() => void) | null = null

  constructor(private readonly what: string) {}

  get isClosed(): boolean {
    return this.closed
  }

  /** @throws DiskError CLOSED after `close` was called. */
  enter(): void {
    if (this.closed) throw new DiskError('CLOSED', `${this.what} is closed`)
    this.inFlight++
  }

  leave(): void {
    assert(this.inFlight > 0, 'an operation leaves once')
    this.inFlight--
    if (this.inFlight === 0) this.whenIdle?.()
  }

  /** Refuses new operations at once; resolves when none is in flight. */
  close(): Promise<void> {
    this.closed = true
    if (this.inFlight === 0) return Promise.resolve()
    return new Promise((resolve) => {
      const before = this.whenIdle
      this.whenIdle = () => {
        before?.()
        resolve()
      }
    })
  }
}
