// The feed: records of the topic into the database, from where the database says it is.
import { json, type Mill, topic, utf8 } from '@millrace/client'
import { bufferTime, filter, lastValueFrom, map } from 'rxjs'
import type { Balances, Change } from './balances.js'

/** What was booked on an account. Adding is not idempotent: applied twice, a balance is wrong. */
export interface Booking {
  readonly cents: number
}

export const Bookings = topic('bookings', { key: utf8, value: json<Booking>() })
export const PARTITIONS = 4

/** Enough to make a transaction worth its flush, and at most so much is waiting in memory. */
const MOST_CHANGES = 500
const LONGEST_WAIT_MS = 50

/** Applies what there is and resolves with how many records that were. */
export async function follow(mill: Mill, balances: Balances, onApplied: (total: number) => void): Promise<number> {
  let total = 0
  const records = mill
    .consumer()
    .subscribe(Bookings, { from: { offsets: balances.nextOffsets(PARTITIONS) }, until: 'end' })
  const applied = records.pipe(
    map(({ partition, offset, key, value }): Change => {
      return { partition, offset, account: key ?? '', cents: value?.cents ?? 0 }
    }),
    bufferTime(LONGEST_WAIT_MS, undefined, MOST_CHANGES),
    filter((changes) => changes.length > 0),
    map((changes) => {
      balances.apply(changes)
      total += changes.length
      onApplied(total)
      return total
    }),
  )
  return lastValueFrom(applied, { defaultValue: 0 })
}
