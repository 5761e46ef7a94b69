// A broker and a client of it for the length of one measurement.
import { connect, type Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { BrokerUnderTest, type Preference } from './broker-under-test.js'

export interface Session {
  readonly broker: BrokerUnderTest
  readonly mill: Mill
  createTopic(name: string, partitions: number, durability: 'flushed' | 'buffered'): Promise<void>
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
    })
  } finally {
    await mill.close()
    await broker.stop()
  }
}

export const round = (value: number, digits = 2): number => Number(value.toFixed(digits))
