// What storage counts; the statistics of the store are these and what its parts know besides.

export class StorageCounters {
  bytesAppended = 0
  bytesWritten = 0
  groups = 0
  flushes = 0
  copiedBytes = 0
  failedReads = 0
  /** Bytes of zeros written to make slots ready. */
  bytesFilled = 0
}
