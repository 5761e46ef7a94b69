// Which replicas of this node may have lost batches that they had acknowledged, in a small file: a restart must not make
// them forget that before they hold everything again.
import type { Volume } from '../environment.js'
import { keyText } from '../storage/group-envelope.js'
import type { LogKey } from '../storage/log-store.js'

type SmallFiles = Pick<Volume, 'readSmall' | 'writeSmall'>

export const REPAIR_FILE = 'repairing.json'

export class RepairList {
  readonly #volume: SmallFiles
  readonly #keys: Set<string>
  #writing: Promise<void> | null = null
  #changed = false

  private constructor(volume: SmallFiles, keys: Iterable<string>) {
    this.#volume = volume
    this.#keys = new Set(keys)
  }

  /** @throws DiskError; SyntaxError for a file that is damaged, whose replicas nobody can name. */
  static async open(volume: SmallFiles): Promise<RepairList> {
    const bytes = await volume.readSmall(REPAIR_FILE)
    const keys: unknown = bytes === null ? [] : JSON.parse(new TextDecoder().decode(bytes))
    return new RepairList(volume, Array.isArray(keys) ? keys.filter((key) => typeof key === 'string') : [])
  }

  has(key: LogKey): boolean {
    return this.#keys.has(keyText(key))
  }

  /** Resolves once a restart will know it. @throws DiskError. */
  async add(key: LogKey): Promise<void> {
    if (this.#keys.has(keyText(key))) return
    this.#keys.add(keyText(key))
    await this.#write()
  }

  /** Later is soon enough: what is on the list for too long votes less than it could. @throws DiskError. */
  async remove(key: LogKey): Promise<void> {
    if (this.#keys.delete(keyText(key))) await this.#write()
  }

  /** One write at a time; whoever comes meanwhile is part of the next. */
  async #write(): Promise<void> {
    this.#changed = true
    while (this.#writing !== null) await this.#writing
    if (!this.#changed) return
    this.#changed = false
    const bytes = new TextEncoder().encode(JSON.stringify([...this.#keys]))
    this.#writing = this.#volume.writeSmall(REPAIR_FILE, bytes).finally(() => {
      this.#writing = null
    })
    await this.#writing
  }
}
