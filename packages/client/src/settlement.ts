// How the client knows that a record is finished. A shipped operator claims the record that is being delivered, at the
// moment it sees it, and releases the claim when its work is done. Whatever nobody claimed is finished when next()
// has returned, or, under iteration, when the next record is asked for. Credit returns to the broker batch by batch,
// when nothing of a batch is unfinished.

/** Whoever delivers records: keeps the claims on them. */
export interface Deliverer {
  /** A claim on the record being delivered now. */
  claim(): Claim
}

/** A record somebody is working on. */
export interface Claim {
  /** The work is done. Further calls do nothing. */
  settle(): void
  /** The work will not be done by this claimant: others and the end of the subscription do not wait for it. */
  letGo(): void
  /** Set by the claimant: called when the subscription ends without waiting for the work. */
  onAbandon: (() => void) | null
}

/** Invariant: set exactly while next() runs for one record; deliveries may nest, and each restores the one before. */
let delivering: Deliverer | null = null

export function beginDelivery(deliverer: Deliverer): Deliverer | null {
  const outer = delivering
  delivering = deliverer
  return outer
}

export function endDelivery(outer: Deliverer | null): void {
  delivering = outer
}

/** Claims the record being delivered; null outside of a delivery, as behind an asynchronous operator. */
export function claimCurrent(): Claim | null {
  return delivering?.claim() ?? null
}
