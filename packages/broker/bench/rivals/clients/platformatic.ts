// @platformatic/kafka in the contest: acks of all replicas in sync, raw buffers, a stream in flowing mode as in its own benchmarks.
import { randomUUID } from 'node:crypto'
import type { Readable } from 'node:stream'
import type { Addresses, Contestant, Load } from '../contestant.js'
import { topicSettings } from './kafka-topic.js'

interface Message {
  readonly value: Buffer
}

interface PlatformaticProducer {
  send(options: {
    readonly messages: readonly { readonly topic: string; readonly partition: number; readonly value: Buffer }[]
  }): Promise<unknown>
  close(): Promise<void>
}

interface PlatformaticConsumer {
  consume(options: {
    readonly topics: readonly string[]
    readonly mode: 'earliest'
  }): Promise<Readable & AsyncIterable<Message>>
  close(force: boolean): Promise<void>
}

interface ListedOffsets {
  readonly partitions: readonly { readonly offset: bigint }[]
}

interface PlatformaticAdmin {
  createTopics(options: {
    readonly topics: readonly string[]
    readonly partitions: number
    readonly replicas: number
    readonly configs: readonly { readonly name: string; readonly value: string }[]
  }): Promise<unknown>
  deleteTopics(options: { readonly topics: readonly string[] }): Promise<void>
  listOffsets(options: {
    readonly topics: readonly {
      readonly name: string
      readonly partitions: readonly { readonly partitionIndex: number; readonly timestamp: bigint }[]
    }[]
  }): Promise<readonly ListedOffsets[]>
  close(): Promise<void>
}

interface PlatformaticKafka {
  readonly ProduceAcks: { readonly ALL: number }
  readonly Producer: new (options: object) => PlatformaticProducer
  readonly Consumer: new (options: object) => PlatformaticConsumer
  readonly Admin: new (options: object) => PlatformaticAdmin
}

/** Kafka's own number for the end of a log. */
const LATEST = -1n
const MAX_WAIT_MS = 10
/** As much in one answer as the other client of Kafka takes; it would be 50 MB, parsed at once. */
const FETCH_BYTES = 8 * 1024 * 1024

export async function platformaticContestant(addresses: Addresses, load: Load): Promise<Contestant> {
  const { Admin, Consumer, ProduceAcks, Producer } = (await load('@platformatic/kafka')) as PlatformaticKafka
  const common = { clientId: 'rivals', bootstrapBrokers: [addresses.buffered] }
  const admin = new Admin(common)
  const producers = new Set<PlatformaticProducer>()
  return {
    async createTopic(topic, durability) {
      await admin.createTopics({ topics: [topic], partitions: 1, replicas: 1, configs: topicSettings(durability) })
    },
    async removeTopic(topic) {
      await admin.deleteTopics({ topics: [topic] })
    },
    async sender(topic) {
      const producer = new Producer({ ...common, acks: ProduceAcks.ALL, autocreateTopics: false })
      producers.add(producer)
      return {
        send: (value) => producer.send({ messages: [{ topic, partition: 0, value }] }),
        sendBatch: (values) => producer.send({ messages: values.map((value) => ({ topic, partition: 0, value })) }),
        async close() {
          producers.delete(producer)
          await producer.close()
        },
      }
    },
    async stored(topic) {
      const partitions = [{ partitionIndex: 0, timestamp: LATEST }]
      const [listed] = await admin.listOffsets({ topics: [{ name: topic, partitions }] })
      return Number(listed!.partitions[0]!.offset)
    },
    async consume(topic, form, take) {
      const groupId = randomUUID()
      const fetch = { minBytes: 1, maxBytes: FETCH_BYTES, maxWaitTime: MAX_WAIT_MS, autocommit: false }
      const consumer = new Consumer({ ...common, groupId, ...fetch })
      const stream = await consumer.consume({ topics: [topic], mode: 'earliest' })
      if (form === 'each') {
        for await (const { value } of stream) if (take(value)) break
      } else {
        await new Promise<void>((resolve, reject) => {
          const next = ({ value }: Message): void => {
            try {
              if (!take(value)) return
            } catch (error) {
              reject(error)
            }
            stream.off('data', next)
            stream.pause()
            resolve()
          }
          stream.on('data', next).on('error', reject)
        })
      }
      await consumer.close(true)
    },
    async close() {
      for (const producer of producers) await producer.close()
      await admin.close()
    },
  }
}
