// The `redis` client (node-redis) in the contest: one stream with one field an entry. A batch is one pipeline, which the client makes of
// commands of the same turn by itself; a consumer reads a thousand entries at a time as buffers.
import type { Addresses, Contestant, Durability, Load } from '../contestant.js'

type Reply = readonly [id: Buffer, fields: readonly [name: Buffer, value: Buffer]]

interface RedisClient {
  connect(): Promise<unknown>
  on(event: 'error', listener: (error: Error) => void): unknown
  withTypeMapping(mapping: Readonly<Record<number, unknown>>): RedisClient
  sendCommand(words: readonly (string | Buffer)[]): Promise<unknown>
  close(): Promise<void>
}

interface Redis {
  createClient(options: { readonly url: string; readonly RESP: 2 }): RedisClient
  readonly RESP_TYPES: { readonly BLOB_STRING: number }
}

const ENTRIES_PER_READ = 1000

export async function redisContestant(addresses: Addresses, load: Load): Promise<Contestant> {
  const { createClient, RESP_TYPES } = (await load('redis')) as Redis
  const open = async (durability: Durability): Promise<RedisClient> => {
    const client = createClient({ url: `redis://${addresses[durability]}`, RESP: 2 })
    client.on('error', (error) => {
      throw error
    })
    await client.connect()
    return client
  }
  const clients = { buffered: await open('buffered'), flushed: await open('flushed') }
  return {
    // A stream comes to be with its first entry.
    createTopic: async () => {},
    async removeTopic(topic, durability) {
      await clients[durability].sendCommand(['UNLINK', topic])
    },
    async sender(topic, durability) {
      const client = clients[durability]
      const send = (value: Buffer): Promise<unknown> => client.sendCommand(['XADD', topic, '*', 'v', value])
      return { send, sendBatch: (values) => Promise.all(values.map(send)), close: async () => {} }
    },
    async stored(topic, durability) {
      return Number(await clients[durability].sendCommand(['XLEN', topic]))
    },
    async consume(topic, form, take) {
      const client = clients.buffered.withTypeMapping({ [RESP_TYPES.BLOB_STRING]: Buffer })
      let last: string | Buffer = '0-0'
      for (;;) {
        const words = ['XREAD', 'COUNT', `${ENTRIES_PER_READ}`, 'STREAMS', topic, last]
        const answer = (await client.sendCommand(words)) as readonly [readonly [Buffer, readonly Reply[]]] | null
        if (answer === null) return
        const entries = answer[0][1]
        for (const [, fields] of entries) {
          if (take(fields[1])) return
          // Code that may await has its turn after each entry.
          if (form === 'each') await null
        }
        last = entries.at(-1)![0]
      }
    },
    async close() {
      for (const client of Object.values(clients)) await client.close()
    },
  }
}
