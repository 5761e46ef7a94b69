// Lets a log begin anew in a slot of its own: the old log is there until the new one is durable, and never comes back then.
import { Checkpointer } from './checkpointer.js'
import type { LogBeginning } from './group-assembly.js'
import type { LogKey, LogState, StorageError } from './log-store.js'
import { LogWriter, type WriterEvents } from './log-writer.js'
import type { SegmentChain } from './segment-chain.js'
import type { StorageContext } from './storage-context.js'

export class NewBeginning {
  readonly writer: LogWriter
  readonly checkpointer: Checkpointer
  private failure: StorageError | null = null
  private wake: () => void = () => {}

  constructor(
    private readonly context: StorageContext,
    key: LogKey,
    state: LogState,
    private readonly beginning: LogBeginning,
    events: WriterEvents,
  ) {
    this.writer = new LogWriter(context, key, beginning, events)
    this.checkpointer = new Checkpointer(context, state, 0, undefined)
  }

  /** What stands before is kept up to the last batch that the log goes on behind. */
  goOnBehind({ segments, maxTimestamp, lastAppendTime }: SegmentChain): void {
    const { position, filled } = this.beginning
    this.writer.chain.adopt(segments, maxTimestamp, lastAppendTime)
    this.writer.chain.truncate({ position, lastIndex: filled.index, nextOffset: filled.nextOffset })
  }

  /**
   * Resolves when the log as the writer has it is durable.
   * @param cutFrom position from which on nothing before belongs to it.
   * @throws StorageError when it was abandoned, or the state is too large.
   */
  async write(cutFrom: number): Promise<void> {
    const { writer } = this
    while (!this.checkpointer.writeBeginning(writer, cutFrom)) await this.until((wake) => writer.onAnyRoom(wake))
    await this.until((wake) => writer.onIdle(wake))
    // The header says that the group was flushed: the old log stays gone even if the group rots.
    await writer.headers.settled()
    await this.context.flusher.flushed()
    if (this.failure !== null) throw this.failure
  }

  /** The log is closed, dropped, or its volume latched. */
  abandon(failure: StorageError): void {
    this.failure = failure
    this.wake()
  }

  async stop(): Promise<void> {
    await this.writer.stop()
    await this.writer.headers.stop()
  }

  private async until(wait: (wake: () => void) => void): Promise<void> {
    if (this.failure === null) {
      await new Promise<void>((resolve) => {
        this.wake = resolve
        wait(resolve)
      })
    }
    if (this.failure !== null) throw this.failure
  }
}
