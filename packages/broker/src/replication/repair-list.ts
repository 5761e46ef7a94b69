// Which replicas of this node may have lost batches that they had acknowledged, in a small file: a restart must not make
// them forget that before they hold everything again.
import { type Clock, DiskError, type Logger, type Timer, type Volume } from '../environment.js'
import { SPACE_RETRY_MS } from '../limits.js'
import { keyText } from '../storage/group-envelope.js'
import type { LogKey } from '../storage/log-store.js'

type SmallFiles = Pick<Volume, 'readSmall' | 'writeSmall'>

interface RepairListOptions {
  readonly clock: Clock
  readonly log: Logger
  /** Told of what no disk does: a bug. */
  readonly report: (error: unknown) => void
}

export const REPAIR_FILE = 'repairing.json'

export class RepairList {
  readonly #volume: SmallFiles
  readonly #options: RepairListOptions
  readonly #keys: Set<string>
  /** Counts the changes. */
  #version = 0
  /** The change up to which the file says all. A write that failed may have left either list there. */
  #savedVersion = 0
  /** Resolves when the write under way has ended, however. */
  #writing: Promise<void> | null = null
  #retry: Timer | null = null
  #stopped = false

  private constructor(volume: SmallFiles, options: RepairListOptions, keys: Iterable<string>) {
    this.#volume = volume
    this.#options = options
    this.#keys = new Set(keys)
  }

  /** @throws DiskError; SyntaxError for a file that is damaged, whose replicas nobody can name. */
  static async open(volume: SmallFiles, options: RepairListOptions): Promise<RepairList> {
    const bytes = await volume.readSmall(REPAIR_FILE)
    const keys: unknown = bytes === null ? [] : JSON.parse(new TextDecoder().decode(bytes))
    return new RepairList(volume, options, Array.isArray(keys) ? keys.filter((key) => typeof key === 'string') : [])
  }

  has(key: LogKey): boolean {
    return this.#keys.has(keyText(key))
  }

  /**
   * Resolves once a restart will know it. What a failed write has not made durable is written again by the next call.
   * @throws DiskError.
   */
  async add(key: LogKey): Promise<void> {
    if (!this.has(key)) {
      this.#keys.add(keyText(key))
      this.#version++
    }
    await this.#write(this.#version)
  }

  /** Later is soon enough: what is on the list for too long votes less than it could. So a disk that fails is asked again. */
  remove(key: LogKey): void {
    if (!this.#keys.delete(keyText(key))) return
    this.#version++
    this.#writeSometime()
  }

  /** Nothing is tried again. */
  stop(): void {
    this.#stopped = true
    this.#retry?.cancel()
    this.#retry = null
  }

  #writeSometime(): void {
    const { clock, log, report } = this.#options
    this.#write(this.#version).catch((cause: unknown) => {
      if (!(cause instanceof DiskError)) report(cause)
      else if (!this.#stopped && this.#retry === null) {
        log.warn({ cause }, 'replicas that hold everything again could not be taken off a list; it is tried again')
        this.#retry = clock.timer(SPACE_RETRY_MS, () => {
          this.#retry = null
          this.#writeSometime()
        })
      }
    })
  }

  /** Resolves once the file says all up to a change. One write at a time; whoever comes meanwhile is part of the next. */
  async #write(version: number): Promise<void> {
    while (this.#writing !== null) await this.#writing
    if (this.#savedVersion < version) await this.#writeAll()
  }

  #writeAll(): Promise<void> {
    const version = this.#version
    const bytes = new TextEncoder().encode(JSON.stringify([...this.#keys]))
    const written = this.#volume.writeSmall(REPAIR_FILE, bytes).then(() => {
      this.#savedVersion = version
    })
    const ended = (): void => {
      this.#writing = null
    }
    this.#writing = written.then(ended, ended)
    return written
  }
}
