// What is known of damage on disk: where, how far it reaches, and what it costs.

/** A stretch of a log on disk that is not what was written. */
export interface DamagedRange {
  /** Of the group in the log. */
  readonly position: number
  /** Where the next whole group stands, or the check ended; the group itself where whole batches follow in it. */
  readonly endPosition: number
  /** Of the first batch that is damaged; null where that is not known. */
  readonly firstIndex: number | null
  /** Offsets that cannot be read: from the first to before the next one; null where that is not known. */
  readonly firstOffset: number | null
  readonly nextOffset: number | null
  /** Of the first batch behind; null where that is not known. */
  readonly nextIndex: number | null
  readonly reason: string
}
