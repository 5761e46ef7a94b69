// Which term each stretch of a log was written in: one entry per leader, however long the log.
import type { Reader, Writer } from '@millrace/protocol'

const MAX_TERMS = 1_000_000

export class TermTable {
  /** Ascending in both. */
  private readonly starts: { readonly term: number; readonly firstOffset: number }[] = []

  note(term: number, firstOffset: number): void {
    if (this.starts.at(-1)?.term !== term) this.starts.push({ term, firstOffset })
  }

  /** Term of the record at `offset`, which the log holds; 0 when it is older than the table. */
  termAt(offset: number): number {
    let low = 0
    let high = this.starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.starts[middle]!.firstOffset <= offset) low = middle + 1
      else high = middle
    }
    return this.starts[low - 1]?.term ?? 0
  }

  encode(writer: Writer): void {
    writer.u32(this.starts.length)
    for (const { term, firstOffset } of this.starts) writer.u32(term).u64(firstOffset)
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  static decode(reader: Reader): TermTable {
    const table = new TermTable()
    for (const { term, firstOffset } of reader.list(reader.u32(), 12, MAX_TERMS, (from) => ({
      term: from.u32(),
      firstOffset: from.u64(),
    }))) {
      table.note(term, firstOffset)
    }
    return table
  }
}
