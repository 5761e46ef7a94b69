// The claims of one subscription: who works on which record, whether that work has begun, and who waits for its end.
import type { MillraceError } from './errors.js'
import type { Inbox } from './inbox.js'
import type { ReceivedBatch } from './received-batch.js'
import type { Claim, ClientServices, Origin } from './settlement.js'

/** What somebody works on: one record, or a whole batch. */
export class SessionClaim implements Claim {
  onAbandon: ((error: MillraceError | null) => void) | null = null
  hasBegun = false
  isSettled = false
  readonly termBefore: number

  constructor(
    readonly claims: SessionClaims,
    readonly inbox: Inbox<unknown, unknown>,
    readonly batch: ReceivedBatch,
    /** Offsets from `offset` up to `endOffset`, which is not one of them. */
    readonly offset: number,
    readonly endOffset: number,
    readonly origin: Origin,
  ) {
    this.termBefore = inbox.isTracked ? inbox.currentPosition.term : 0
  }

  get topic(): string {
    return this.claims.topic
  }

  get partition(): number {
    return this.inbox.partition
  }

  get client(): ClientServices {
    return this.claims.client
  }

  begin(): boolean {
    if (!this.claims.holds(this)) return false
    if (!this.hasBegun) {
      this.hasBegun = true
      this.inbox.stopsWaiting()
    }
    return true
  }

  settle(): void {
    this.isSettled = true
    this.claims.release(this)
  }

  letGo(): void {
    this.claims.release(this)
  }
}

export class SessionClaims {
  readonly #claims = new Set<SessionClaim>()
  #idleListeners: (() => void)[] = []

  constructor(
    readonly topic: string,
    readonly client: ClientServices,
  ) {}

  /** The one made first of those that are left. */
  get oldest(): SessionClaim | null {
    for (const claim of this.#claims) return claim
    return null
  }

  add(inbox: Inbox<unknown, unknown>, batch: ReceivedBatch, offset: number, endOffset: number, origin: Origin): Claim {
    batch.unfinished++
    inbox.startsWaiting()
    const claim = new SessionClaim(this, inbox, batch, offset, endOffset, origin)
    this.#claims.add(claim)
    if (inbox.isTracked) inbox.progress.add(claim)
    return claim
  }

  holds(claim: SessionClaim): boolean {
    return this.#claims.has(claim)
  }

  release(claim: SessionClaim): void {
    if (!this.#claims.delete(claim)) return
    claim.inbox.finish(claim.batch)
    if (!claim.hasBegun) claim.inbox.stopsWaiting()
    if (claim.inbox.isTracked) claim.inbox.progress.over()
    if (this.#claims.size === 0) this.#tellIdle()
  }

  /** Lets go of those whose work has not begun, of one partition or of all; it will not begin any more. */
  dropWaiting(inbox: Inbox<unknown, unknown> | null = null): void {
    for (const claim of [...this.#claims]) {
      if (!claim.hasBegun && (inbox === null || claim.inbox === inbox)) claim.letGo()
    }
  }

  /** Resolves when nothing is being worked on. */
  whenIdle(): Promise<void> {
    if (this.#claims.size === 0) return Promise.resolve()
    return new Promise((resolve) => this.#idleListeners.push(resolve))
  }

  /** Gives up on what is being worked on; `error` is what its streams end with, null lets them complete. */
  abandon(error: MillraceError | null): void {
    const claims = [...this.#claims]
    this.forget()
    for (const claim of claims) claim.onAbandon?.(error)
  }

  /** Nobody waits for them any more, and nobody is told. */
  forget(): void {
    this.#claims.clear()
    this.#tellIdle()
  }

  #tellIdle(): void {
    for (const listener of this.#idleListeners.splice(0)) listener()
  }
}
