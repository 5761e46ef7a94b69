// A broker and a client of it for the length of one measurement.
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { PoolStatistics } from '#src/memory/page-pool.js'
import { BrokerUnderTest, type Preference } from './broker-under-test.js'

export interface Session {
  readonly broker: BrokerUnderTest
  readonly mill: Mill
  createTopic(name: string, partitions: number, durability: 'flushed' | 'buffered'): Promise<void>
  /** What the broker's page pool has counted since it was started. */
  pagePool(): Promise<PoolStatistics>
}

/** Counts since `before`; frames and pins are as they are now. */
export function pagePoolSince(before: PoolStatistics, now: PoolStatistics): PoolStatistics {
  return {
    ...now,
    hits: now.hits - before.hits,
    misses: now.misses - before.misses,
    evictions: now.evictions - before.evictions,
    readAheadUsed: now.readAheadUsed - before.readAheadUsed,
    readAheadWasted: now.readAheadWasted - before.readAheadWasted,
  }
}

export async function withSession<T>(
  prefer: Preference,
  work: (session: Session) => Promise<T>,
  flags: readonly string[] = [],
): Promise<T> {
  const broker = await BrokerUnderTest.start(prefer, flags)
  const mill = connect({ bootstrap: broker.bootstrap, bufferBytes: 64 * 1024 * 1024 })
  try {
    return await work({
      broker,
      mill,
      async createTopic(name, partitions, durability) {
        await admin(mill).createTopic(name, { partitions, durability })
      },
      async pagePool() {
        const { storage } = await admin(mill).brokerStatus()
        return (storage as { readonly pagePool: PoolStatistics }).pagePool
      },
    })
  } finally {
    await mill.close()
    await broker.stop()
  }
}

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits))
