// What stands between the owner of a log and its slots; made anew when the log begins anew.
import type { Checkpointer } from './checkpointer.js'
import type { FormerSlot } from './former-slots.js'
import { LogReader } from './log-reader.js'
import type { LogKey } from './log-store.js'
import type { LogWriter } from './log-writer.js'
import type { Segment } from './segment.js'
import { SlotRecycler } from './slot-recycler.js'
import type { StorageContext } from './storage-context.js'

export class LogParts {
  readonly reader: LogReader
  readonly recycler: SlotRecycler

  constructor(
    context: StorageContext,
    key: LogKey,
    readonly writer: LogWriter,
    readonly checkpointer: Checkpointer,
  ) {
    this.reader = new LogReader(context, key, writer)
    this.recycler = new SlotRecycler(context, writer)
  }
}

/** The slots of a log as they are to be given back. */
export function slotsOf({ chain, flushedPosition }: LogWriter): (FormerSlot & { readonly segment: Segment })[] {
  return chain.segments.map((segment) => {
    const { slot, source } = segment
    return { segment, slot, source, writtenBytes: segment.writtenBytes(flushedPosition) }
  })
}
