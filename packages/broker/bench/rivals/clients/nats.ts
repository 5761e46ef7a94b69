// @nats-io/jetstream in the contest: a file stream with one replica and one subject. A batch is an atomic batch of the server, a
// consumer an ordered one with many messages on their way.
import type { Addresses, Contestant, Durability, Load, Take } from '../contestant.js'

interface JsMsg {
  readonly data: Uint8Array
}

interface ConsumerMessages extends AsyncIterable<JsMsg> {
  close(): Promise<unknown>
}

interface JetStreamConsumer {
  consume(options: {
    readonly max_messages: number
    readonly callback?: (message: JsMsg) => void
  }): Promise<ConsumerMessages>
  delete(): Promise<boolean>
}

interface JetStreamBatch {
  add(subject: string, payload: Uint8Array): void
  commit(subject: string, payload: Uint8Array): Promise<unknown>
}

interface JetStreamClient {
  publish(subject: string, payload: Uint8Array): Promise<unknown>
  startBatch(subject: string, payload: Uint8Array): Promise<JetStreamBatch>
  readonly consumers: { get(stream: string, options: { readonly deliver_policy: 'all' }): Promise<JetStreamConsumer> }
}

interface JetStreamManager {
  readonly streams: {
    add(options: object): Promise<unknown>
    delete(stream: string): Promise<boolean>
    info(stream: string): Promise<{ readonly state: { readonly messages: number } }>
  }
}

interface NatsConnection {
  close(): Promise<void>
}

interface Transport {
  connect(options: { readonly servers: string }): Promise<NatsConnection>
}

interface JetStream {
  jetstream(connection: NatsConnection): JetStreamClient
  jetstreamManager(connection: NatsConnection): Promise<JetStreamManager>
}

/** Messages that the server may have on their way; more brought nothing. */
const MAX_MESSAGES = 5000
/** The server takes no larger atomic batch. */
const MAX_BATCH = 1000

export async function natsContestant(addresses: Addresses, load: Load): Promise<Contestant> {
  const { connect } = (await load('@nats-io/transport-node')) as Transport
  const { jetstream, jetstreamManager } = (await load('@nats-io/jetstream')) as JetStream
  const open = async (durability: Durability) => {
    const connection = await connect({ servers: addresses[durability] })
    return { connection, js: jetstream(connection), streams: (await jetstreamManager(connection)).streams }
  }
  const servers = { buffered: await open('buffered'), flushed: await open('flushed') }
  return {
    async createTopic(topic, durability) {
      const fixed = { storage: 'file', num_replicas: 1, retention: 'limits', allow_atomic: true }
      await servers[durability].streams.add({ name: topic, subjects: [topic], ...fixed })
    },
    async removeTopic(topic, durability) {
      await servers[durability].streams.delete(topic)
    },
    async sender(topic, durability) {
      const { js } = servers[durability]
      return {
        send: (value) => js.publish(topic, value),
        async sendBatch(values) {
          if (values.length > MAX_BATCH) throw new Error(`a batch has at most ${MAX_BATCH} messages`)
          const batch = await js.startBatch(topic, values[0]!)
          for (let i = 1; i < values.length - 1; i++) batch.add(topic, values[i]!)
          await batch.commit(topic, values.at(-1)!)
        },
        close: async () => {},
      }
    },
    async stored(topic, durability) {
      const { state } = await servers[durability].streams.info(topic)
      return state.messages
    },
    async consume(topic, form, take) {
      const consumer = await servers.buffered.js.consumers.get(topic, { deliver_policy: 'all' })
      if (form === 'each') {
        const messages = await consumer.consume({ max_messages: MAX_MESSAGES })
        for await (const { data } of messages) if (take(data)) break
        await messages.close()
      } else await byCallback(consumer, take)
      await consumer.delete()
    },
    async close() {
      for (const { connection } of Object.values(servers)) await connection.close()
    },
  }
}

async function byCallback(consumer: JetStreamConsumer, take: Take): Promise<void> {
  let finish = (): void => {}
  let fail = (_error: unknown): void => {}
  let taken = false
  const finished = new Promise<void>((resolve, reject) => {
    finish = resolve
    fail = reject
  })
  const callback = ({ data }: JsMsg): void => {
    if (taken) return
    try {
      taken = take(data)
    } catch (error) {
      taken = true
      fail(error)
    }
    if (taken) finish()
  }
  const messages = await consumer.consume({ max_messages: MAX_MESSAGES, callback })
  await finished
  await messages.close()
}
