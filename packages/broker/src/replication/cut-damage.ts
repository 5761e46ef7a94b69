// A replica whose log is damaged gets what it lacks from the others: first the damage has to go.
import { type PartitionLog, StorageError } from '../storage/log-store.js'

/**
 * Cuts off damage at the end of a log that other nodes have too, so that it takes batches again. The replica is known to lack
 * what it had acknowledged (`lostAcknowledged`) and does not vote as if it had it. Damage elsewhere stays, and with it the
 * failure of the log. @throws StorageError when the disk fails.
 */
export async function cutDamage(log: PartitionLog): Promise<void> {
  if (log.failure?.code !== 'DAMAGED') return
  try {
    await log.truncateTo(log.filled.index)
  } catch (cause) {
    if (!(cause instanceof StorageError) || cause.code !== 'DAMAGED') throw cause
  }
}
