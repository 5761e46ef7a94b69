// Which batches on disk are dead: truncation leaves them where they are, and what comes behind supersedes them.
import type { Reader, Writer } from '@millrace/protocol'

/** A suffix was cut off: the group at `position` is the first one after that. */
export interface Truncation {
  readonly position: number
  /** Index of the last batch that was kept, and the offset behind it. */
  readonly lastIndex: number
  readonly nextOffset: number
}

const MAX_TRUNCATIONS = 1_000_000

/**
 * Invariant: ascending in position and in index. A truncation that reaches as far back as an earlier one says
 * everything that the earlier one said.
 */
export class Truncations {
  private list: Truncation[] = []
  /** Rises with every one: a read that waited meanwhile looks again. */
  changes = 0

  get length(): number {
    return this.list.length
  }

  all(): readonly Truncation[] {
    return this.list
  }

  note(truncation: Truncation): void {
    this.changes++
    while (this.list.length > 0 && this.list.at(-1)!.lastIndex >= truncation.lastIndex) this.list.pop()
    this.list.push(truncation)
  }

  /** Whether a batch, or a whole group by its first index, that begins at a position was cut off later. */
  isDead(position: number, index: number): boolean {
    if (this.list.length === 0) return false
    const next = this.list.find((truncation) => truncation.position > position)
    return next !== undefined && index > next.lastIndex
  }

  /**
   * The segments begin at a position: what was cut off before is gone. One right there still tells that the first segment
   * begins with a lower index than its header says.
   */
  forgetBefore(position: number): void {
    this.list = this.list.filter((truncation) => truncation.position >= position)
  }

  encode(writer: Writer): void {
    writer.u32(this.list.length)
    for (const { position, lastIndex, nextOffset } of this.list) writer.u64(position).u64(lastIndex).u64(nextOffset)
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  static decode(reader: Reader): Truncations {
    const truncations = new Truncations()
    for (const truncation of reader.list(reader.u32(), 24, MAX_TRUNCATIONS, (from) => ({
      position: from.u64(),
      lastIndex: from.u64(),
      nextOffset: from.u64(),
    }))) {
      truncations.note(truncation)
    }
    return truncations
  }
}
