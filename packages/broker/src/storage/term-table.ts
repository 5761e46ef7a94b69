// Which term each stretch of a log was written in: one entry per leader, however long the log.
import type { Reader, Writer } from '@millrace/protocol'

const MAX_TERMS = 1_000_000

export interface TermStart {
  readonly term: number
  /** Of the first batch of the term. */
  readonly firstIndex: number
  readonly firstOffset: number
}

export class TermTable {
  /** Ascending in all three. */
  private readonly starts: TermStart[] = []

  note(term: number, firstIndex: number, firstOffset: number): void {
    if (this.starts.at(-1)?.term !== term) this.starts.push({ term, firstIndex, firstOffset })
  }

  /** The terms of a log that begins with `firstIndex` at `firstOffset`, ascending. */
  runsFrom(firstIndex: number, firstOffset: number): TermStart[] {
    const from = Math.max(0, this.countUpTo('firstIndex', firstIndex) - 1)
    return this.starts.slice(from).map((start) => ({
      term: start.term,
      firstIndex: Math.max(start.firstIndex, firstIndex),
      firstOffset: Math.max(start.firstOffset, firstOffset),
    }))
  }

  /** Term of the record at `offset`, which the log holds; 0 when it is older than the table. */
  termAt(offset: number): number {
    return this.starts[this.countUpTo('firstOffset', offset) - 1]?.term ?? 0
  }

  /** Term of the batch with this index, which the log holds; 0 when it is older than the table. */
  termAtIndex(index: number): number {
    return this.starts[this.countUpTo('firstIndex', index) - 1]?.term ?? 0
  }

  /** Batches above `lastIndex` are gone. */
  truncateTo(lastIndex: number): void {
    this.starts.splice(this.countUpTo('firstIndex', lastIndex))
  }

  /** Batches below `firstIndex` are gone. */
  forgetBefore(firstIndex: number): void {
    this.starts.splice(0, Math.max(0, this.countUpTo('firstIndex', firstIndex) - 1))
  }

  /** How many entries begin at or before a place. */
  private countUpTo(field: 'firstIndex' | 'firstOffset', place: number): number {
    let low = 0
    let high = this.starts.length
    while (low < high) {
      const middle = (low + high) >>> 1
      if (this.starts[middle]![field] <= place) low = middle + 1
      else high = middle
    }
    return low
  }

  encode(writer: Writer): void {
    writer.u32(this.starts.length)
    for (const { term, firstIndex, firstOffset } of this.starts) writer.u32(term).u64(firstIndex).u64(firstOffset)
  }

  /** @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  static decode(reader: Reader): TermTable {
    const table = new TermTable()
    for (const { term, firstIndex, firstOffset } of reader.list(reader.u32(), 20, MAX_TERMS, (from) => ({
      term: from.u32(),
      firstIndex: from.u64(),
      firstOffset: from.u64(),
    }))) {
      table.note(term, firstIndex, firstOffset)
    }
    return table
  }
}
