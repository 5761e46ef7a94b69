// Flushes that several wait for together: whoever asks while one is under way is part of the next.
import type { DiskFile } from '../environment.js'

export class JoinedFlushes {
  private waiting: DiskFile[] = []
  private next: Promise<void> | null = null
  private current: Promise<void> = Promise.resolve()

  /** @param flush of all files that were asked for since the last one began. */
  constructor(private readonly flush: (files: readonly DiskFile[]) => Promise<void>) {}

  /** Resolves when a flush that began after this call is done. @throws what that flush throws. */
  join(file: DiskFile): Promise<void> {
    this.waiting.push(file)
    this.next ??= this.afterCurrent()
    return this.next
  }

  private async afterCurrent(): Promise<void> {
    // Whoever waited for that one hears of its failure.
    await this.current.catch(() => {})
    const files = this.waiting
    this.waiting = []
    this.next = null
    this.current = this.flush(files)
    await this.current
  }
}
