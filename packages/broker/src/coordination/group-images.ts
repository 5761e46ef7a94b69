// Keeps the log of a coordinator short: now and then an image of all groups is written, and the log begins there.

import type { Environment } from '../environment.js'
import { encodeGroupCommand } from '../groups/group-command.js'
import type { GroupsState } from '../groups/groups-state.js'
import { GROUP_IMAGE_AFTER_BYTES, GROUP_IMAGE_RATIO } from '../limits.js'
import type { Metrics } from '../metrics.js'
import { writeLogStart } from '../partition/log-start-proposal.js'
import type { Partition } from '../partition/partition.js'
import { StorageError } from '../storage/log-store.js'
import type { CommandWriter, Committed } from './command-writer.js'

interface ImageOptions {
  readonly state: GroupsState
  readonly writer: CommandWriter
  readonly partition: Partition
  readonly environment: Environment
  readonly metrics: Metrics
}

export class GroupImages {
  readonly #options: ImageOptions
  /** Of commands since the last image, and of that image. */
  #bytesSince: number
  #imageBytes = 0
  #isUnderWay = false
  /** Where the last image begins, until the log is told to begin there. */
  #start: Committed | null = null

  constructor(options: ImageOptions, bytesSince: number) {
    this.#options = options
    this.#bytesSince = bytesSince
  }

  /** Nothing is under way: the state is what stands in the log. */
  batchCommitted(bytes: number): void {
    this.#bytesSince += bytes
    if (this.#start !== null) this.#moveStart(this.#start)
    const isDue = this.#bytesSince >= Math.max(GROUP_IMAGE_AFTER_BYTES, GROUP_IMAGE_RATIO * this.#imageBytes)
    if (isDue && !this.#isUnderWay) this.#write()
  }

  #write(): void {
    const { state, writer, metrics } = this.#options
    const parts = state.imageCommands().map(encodeGroupCommand)
    let first: Committed | null = null
    let left = parts.length
    this.#isUnderWay = true
    writer.writeFirst(
      parts.map((value) => ({
        value,
        expiresAtMs: Number.POSITIVE_INFINITY,
        committed: (where) => {
          first ??= where
          if (--left > 0) return
          metrics.groupImages++
          this.#isUnderWay = false
          this.#bytesSince = 0
          this.#imageBytes = parts.reduce((sum, part) => sum + part.length, 0)
          this.#start = first
        },
        refused: () => {
          this.#isUnderWay = false
        },
      })),
    )
  }

  /** Where there is no room now it is tried again behind the next batch. */
  #moveStart({ index, baseOffset: offset }: Committed): void {
    const { partition, environment } = this.#options
    const { clock, memory } = environment
    const { group } = partition
    if (!group.isServing || !group.mayAppend) return
    const wallMs = Math.max(clock.wallMs(), partition.lastAppendTime)
    const start = { index, offset, previousTerm: group.log.termAtIndex(index - 1) }
    try {
      const written = writeLogStart(group, start, wallMs, memory)
      if (written === null) return
      partition.begun(written.header, written.index, wallMs)
      this.#start = null
    } catch (error) {
      // The log fails or is full: whoever appends hears of it.
      if (!(error instanceof StorageError)) throw error
    }
  }
}
