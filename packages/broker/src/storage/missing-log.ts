// A log that ought to be there and was not found is empty only if every segment file could be read.
import { keyText, sameKey } from './group-envelope.js'
import { type LogKey, type LogStore, StorageError } from './log-store.js'

/**
 * To be asked at start before a log is opened that an earlier run may have written to: opening one that was not found
 * begins it anew, and what an unreadable file holds of it would be lost.
 * @throws StorageError DAMAGED; nothing has been changed.
 */
export function refuseToReplace(store: LogStore, key: LogKey): void {
  const { unreadable } = store.recovery
  if (unreadable.length === 0 || store.found.some((found) => sameKey(found, key))) return
  throw new StorageError(
    'DAMAGED',
    `log ${keyText(key)} was not found, and ${unreadable.slice(0, 3).join(', ')} cannot be read: the log may be in there. ` +
      'Start again; if that does not help, restore the file from a copy, or move it away to give up what it holds',
  )
}
