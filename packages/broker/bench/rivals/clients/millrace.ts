// Millrace's own client in the contest: defaults throughout, acks `all`. The fastest form is whole batches, read where they stand.
import { bytes, connect, topic as topicOf } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { Addresses, Contestant } from '../contestant.js'

const described = (name: string) => topicOf(name, { key: bytes, value: bytes })

export function millraceContestant(addresses: Addresses): Contestant {
  const mill = connect({ bootstrap: addresses.buffered })
  return {
    async createTopic(topic, durability) {
      await admin(mill).createTopic(topic, { partitions: 1, durability })
    },
    async removeTopic(topic) {
      await admin(mill).deleteTopic(topic)
    },
    async sender(topic) {
      const producer = mill.producer(described(topic))
      await producer.ready()
      return {
        send: (value) => producer.send(null, value),
        sendBatch: (values) => producer.sendBatch(values.map((value) => ({ key: null, value }))),
        close: () => producer.close(),
      }
    },
    async stored(topic) {
      const { partitions } = await admin(mill).describeTopic(topic)
      return partitions.reduce((sum, { highWatermark }) => sum + (highWatermark ?? 0), 0)
    },
    async consume(topic, form, take) {
      const stream = mill.consumer().subscribe(described(topic), { from: 'earliest' })
      if (form === 'each') {
        for await (const { value } of stream) if (take(value!)) return
        return
      }
      await new Promise<void>((resolve, reject) => {
        const subscription = stream.batches({ reuseMemory: true }).subscribe({
          next: (batch) => {
            for (const view = batch.view(); view.next(); ) {
              if (!take(view.bytes, view.valueStart, view.valueEnd)) continue
              subscription.unsubscribe()
              resolve()
              return
            }
          },
          error: reject,
        })
      })
    },
    close: () => mill.close(),
  }
}
