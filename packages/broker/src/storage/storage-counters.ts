// What storage counts; the statistics of the store are these and what its parts know besides.

export class StorageCounters {
  bytesAppended = 0
  bytesWritten = 0
  groups = 0
  flushes = 0
  copiedBytes = 0
  failedReads = 0
  /** What the scrubber has read, how often it came round, and the damaged stretches that were found by it or a reader. */
  scrubbedBytes = 0
  scrubPasses = 0
  damagedGroups = 0
  /** Bytes of zeros written to make slots ready. */
  bytesFilled = 0
  /** Slots given back behind a log start. */
  slotsRecycled = 0
}
