// kafkajs in the contest: acks of all replicas in sync, whole batches for the fastest form.
import { randomUUID } from 'node:crypto'
import { wait } from '../../support/produce-load.js'
import type { Addresses, Contestant, Load } from '../contestant.js'
import { topicSettings } from './kafka-topic.js'

interface Message {
  readonly value: Buffer
}

interface KafkaJsProducer {
  connect(): Promise<void>
  send(record: {
    readonly topic: string
    readonly acks: number
    readonly messages: readonly { readonly partition: number; readonly value: Buffer }[]
  }): Promise<unknown>
  disconnect(): Promise<void>
}

interface KafkaJsConsumer {
  connect(): Promise<void>
  subscribe(options: { readonly topics: readonly string[]; readonly fromBeginning: boolean }): Promise<void>
  run(options: {
    readonly autoCommit: boolean
    readonly eachBatch?: (payload: { readonly batch: { readonly messages: readonly Message[] } }) => Promise<void>
    readonly eachMessage?: (payload: { readonly message: Message }) => Promise<void>
  }): Promise<void>
  on(event: 'consumer.crash', listener: (crash: { readonly payload: { readonly error: Error } }) => void): void
  disconnect(): Promise<void>
}

interface KafkaJsAdmin {
  connect(): Promise<void>
  createTopics(options: object): Promise<boolean>
  deleteTopics(options: { readonly topics: readonly string[] }): Promise<void>
  fetchTopicMetadata(options: { readonly topics: readonly string[] }): Promise<unknown>
  fetchTopicOffsets(topic: string): Promise<readonly { readonly offset: string }[]>
  disconnect(): Promise<void>
}

interface KafkaJs {
  readonly Kafka: new (
    options: object,
  ) => {
    producer(options: object): KafkaJsProducer
    consumer(options: object): KafkaJsConsumer
    admin(): KafkaJsAdmin
  }
  readonly Partitioners: { readonly DefaultPartitioner: unknown }
  readonly logLevel: { readonly NOTHING: number }
}

const ALL = -1
/** A broker that has just made a topic may not know it for a moment, and the client takes that for an error. */
const KNOWN_TRIES = 100
const KNOWN_SECONDS = 0.05
const MAX_WAIT_MS = 10
/** Of a partition in one answer; by default it is 1 MiB. */
const FETCH_BYTES = 8 * 1024 * 1024

export async function kafkajsContestant(addresses: Addresses, load: Load): Promise<Contestant> {
  const { default: kafkajs } = (await load('kafkajs')) as { default: KafkaJs }
  const kafka = new kafkajs.Kafka({
    clientId: 'rivals',
    brokers: [addresses.buffered],
    logLevel: kafkajs.logLevel.NOTHING,
  })
  const admin = kafka.admin()
  await admin.connect()
  return {
    async createTopic(topic, durability) {
      const configEntries = topicSettings(durability)
      const topics = [{ topic, numPartitions: 1, replicationFactor: 1, configEntries }]
      await admin.createTopics({ topics, waitForLeaders: false })
      await untilKnown(admin, topic)
    },
    removeTopic: (topic) => admin.deleteTopics({ topics: [topic] }),
    async sender(topic) {
      const producer = kafka.producer({
        createPartitioner: kafkajs.Partitioners.DefaultPartitioner,
        allowAutoTopicCreation: false,
      })
      await producer.connect()
      return {
        send: (value) => producer.send({ topic, acks: ALL, messages: [{ partition: 0, value }] }),
        sendBatch: (values) =>
          producer.send({ topic, acks: ALL, messages: values.map((value) => ({ partition: 0, value })) }),
        close: () => producer.disconnect(),
      }
    },
    async stored(topic) {
      const [partition] = await admin.fetchTopicOffsets(topic)
      return Number(partition!.offset)
    },
    async consume(topic, form, take) {
      const consumer = kafka.consumer({
        groupId: randomUUID(),
        maxWaitTimeInMs: MAX_WAIT_MS,
        maxBytesPerPartition: FETCH_BYTES,
      })
      await consumer.connect()
      await consumer.subscribe({ topics: [topic], fromBeginning: true })
      let taken = false
      await new Promise<void>((resolve, reject) => {
        const next = ({ value }: Message): void => {
          if (taken) return
          taken = take(value)
          if (taken) resolve()
        }
        consumer.on('consumer.crash', ({ payload }) => reject(payload.error))
        const eachMessage = async ({ message }: { message: Message }): Promise<void> => next(message)
        const eachBatch = async ({ batch }: { batch: { messages: readonly Message[] } }): Promise<void> =>
          batch.messages.forEach(next)
        consumer.run({ autoCommit: false, ...(form === 'each' ? { eachMessage } : { eachBatch }) }).catch(reject)
      })
      await consumer.disconnect()
    },
    close: () => admin.disconnect(),
  }
}

async function untilKnown(admin: KafkaJsAdmin, topic: string): Promise<void> {
  for (let tries = 1; ; tries++) {
    try {
      await admin.fetchTopicMetadata({ topics: [topic] })
      return
    } catch (error) {
      if (tries === KNOWN_TRIES) throw error
      await wait(KNOWN_SECONDS)
    }
  }
}
