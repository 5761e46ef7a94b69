// A write to a slot of a log, which waits where the disk is full and the slot was never written through.
import { type Block, DiskError } from '../environment.js'
import type { Slot } from './slot.js'
import type { StorageContext } from './storage-context.js'

/**
 * A slot that was not written through may find the disk full at any block. Nothing of what is written counts yet, and its
 * bytes are still in memory, so it is written again once there is space.
 * @throws DiskError for everything else.
 */
export async function writeWhenSpace(
  { pool, limits, environment }: StorageContext,
  slot: Slot,
  filePosition: number,
  source: { readonly block: Block; readonly offset: number; readonly byteLength: number },
): Promise<void> {
  while (true) {
    try {
      return await slot.file.write(filePosition, source.block, source.offset, source.byteLength)
    } catch (cause) {
      if (!(cause instanceof DiskError) || cause.code !== 'NO_SPACE' || slot.writtenThrough) throw cause
      pool.becomeFull(limits.slotBytes[0]!)
      await new Promise<void>((resolve) => {
        environment.clock.timer(limits.spaceRetryMs, resolve)
      })
    }
  }
}
