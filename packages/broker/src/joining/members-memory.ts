// Keeps on disk who the others are, whenever that changes.
import type { ClusterMembers } from '../cluster/cluster-members.js'
import { DiskError, type Logger, type Volume } from '../environment.js'
import { type RememberedMembers, writeMembersFile } from './members-file.js'

interface MembersMemoryOptions {
  readonly founders: readonly number[]
  /** What is on disk. */
  readonly remembered: RememberedMembers | null
  readonly log: Logger
}

export class MembersMemory {
  readonly #joiningDisk: string | null
  /** What was written last, as text: most changes are none for a restart. */
  #written: string
  #writing = false
  #isStale = false

  constructor(
    private readonly volume: Pick<Volume, 'writeSmall'>,
    private readonly members: ClusterMembers,
    private readonly options: MembersMemoryOptions,
  ) {
    const { remembered } = options
    this.#joiningDisk = remembered?.joiningDisk ?? null
    this.#written = remembered === null ? '' : JSON.stringify(remembered)
  }

  /** Writes what is new. A broker without others, now and ever, has nothing to remember. */
  refresh(): void {
    this.#isStale = true
    if (this.#writing) return
    this.#writing = true
    void this.#write().finally(() => {
      this.#writing = false
    })
  }

  /** Always resolves. */
  async #write(): Promise<void> {
    while (this.#isStale) {
      this.#isStale = false
      const { members, options } = this
      const isAlone = members.others.length === 0 && members.removed.length === 0
      const list = members.list().map(({ nodeId, host, port }) => ({ nodeId, host, port }))
      const content = {
        joiningDisk: this.#joiningDisk,
        founders: options.founders,
        members: list.filter(({ port }) => port > 0),
        removed: members.removed,
      }
      const text = JSON.stringify(content)
      if (text === this.#written || (isAlone && this.#written === '')) continue
      try {
        await writeMembersFile(this.volume, content)
        this.#written = text
      } catch (cause) {
        if (!(cause instanceof DiskError)) throw cause
        options.log.error({ cause }, 'the list of brokers could not be written: a restart may not find all of them')
      }
    }
  }
}
