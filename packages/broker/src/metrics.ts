// What a broker counts, for `brokerStatus` and whoever watches it. Plain numbers, added to in place.
import type { ErrorName } from '@millrace/protocol'

export class Metrics {
  framesReceived = 0
  framesSent = 0
  bytesReceived = 0
  bytesSent = 0
  connectionsAccepted = 0
  connectionsRefused = 0
  connectionsClosed = 0
  producedBatches = 0
  producedRecords = 0
  producedBytes = 0
  duplicateBatches = 0
  pushedBatches = 0
  pushedBytes = 0
  cursorsOpened = 0
  /** Times a connection was not read because of its own or the broker's limits. */
  readsPaused = 0
  /** Connections that this broker has dialled to others, made and lost. */
  peersConnected = 0
  peersLost = 0
  peerFramesReceived = 0
  peerFramesSent = 0
  peerBytesReceived = 0
  peerBytesSent = 0
  /** Raft messages that were not sent, because there was no connection or too much waited to be sent. */
  peerMessagesDropped = 0
  /** Logs on disk that belong to no topic the metadata knows. */
  unknownLogs = 0
  /** What the coordinators of consumer groups on this broker have done. */
  groupJoins = 0
  groupBeats = 0
  groupCommits = 0
  /** Members whose lease ran out. */
  groupExpiries = 0
  groupCommands = 0
  groupImages = 0
  /** Times a coordinator has read its log, since it came to lead. */
  groupLoads = 0
  internalErrors = 0
  readonly #refusals = new Map<ErrorName, number>()

  appended(records: number, bytes: number): void {
    this.producedBatches++
    this.producedRecords += records
    this.producedBytes += bytes
  }

  refused(code: ErrorName): void {
    this.#refusals.set(code, (this.#refusals.get(code) ?? 0) + 1)
  }

  /** Everything by name; refusals by their code. */
  snapshot(): object {
    return { ...this, refusals: Object.fromEntries([...this.#refusals].sort(([a], [b]) => (a < b ? -1 : 1))) }
  }
}
