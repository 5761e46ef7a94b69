// Who belongs to a group, as its log says it: the configuration before the first batch of the log, and those in it.
import { ProtocolError, type Reader, type Writer } from '@millrace/protocol'
import type { Configuration, PlacedConfiguration } from '../raft/raft-types.js'
import { readConfiguration, writeConfiguration } from './raft-batch.js'

/** A change is committed before the next one is begun, and what is left behind by the log start is forgotten. */
const MAX_PLACED = 100_000

export class GroupConfigurations {
  /** In force before those in the log; null where the log never said. */
  #base: Configuration | null = null
  /** Ascending. */
  #placed: PlacedConfiguration[] = []

  /** Whether whoever has this log knows from it who belongs to the group. */
  get isKnown(): boolean {
    return this.#base !== null || this.#placed.length > 0
  }

  /** In force behind the last batch; null where the log never said. */
  get last(): Configuration | null {
    return this.#placed.at(-1)?.configuration ?? this.#base
  }

  /** A batch that brings a configuration is in the log. Those that are known already change nothing. */
  note(index: number, configuration: Configuration): void {
    if (index > (this.#placed.at(-1)?.index ?? 0)) this.#placed.push({ index, configuration })
  }

  /** In force before the batch at `index`; null where the log never said. */
  before(index: number): Configuration | null {
    return this.#placed.findLast((placed) => placed.index < index)?.configuration ?? this.#base
  }

  /** Brought by the batches from `index` on. */
  from(index: number): readonly PlacedConfiguration[] {
    return this.#placed.filter((placed) => placed.index >= index)
  }

  /** The log begins with `index` now. */
  forgetBefore(index: number): void {
    if ((this.#placed[0]?.index ?? index) >= index) return
    this.#base = this.before(index)
    this.#placed = this.#placed.filter((placed) => placed.index >= index)
  }

  /** @param base null: nothing is known. */
  restore(base: Configuration | null): void {
    this.#base = base
    this.#placed = []
  }

  /** u8 whether the one before follows, and it; u32 count; each: u64 index, configuration. */
  encode(writer: Writer): void {
    writer.u8(this.#base === null ? 0 : 1)
    if (this.#base !== null) writeConfiguration(writer, this.#base)
    writer.u32(this.#placed.length)
    for (const { index, configuration } of this.#placed) {
      writer.u64(index)
      writeConfiguration(writer, configuration)
    }
  }

  /** Replaces everything. @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  decode(reader: Reader): void {
    const hasBase = reader.u8()
    if (hasBase > 1) throw new ProtocolError('CORRUPT_FRAME', 'configurations of a group')
    this.#base = hasBase === 1 ? readConfiguration(reader) : null
    this.#placed = [
      ...reader.list(reader.u32(), 14, MAX_PLACED, (from) => ({
        index: from.u64(),
        configuration: readConfiguration(from),
      })),
    ]
  }
}
