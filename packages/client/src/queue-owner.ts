// What the queue of a partition needs of its producer.
import type { BatchIdentity } from '@millrace/protocol'
import type { BatchBuffers } from './batch-buffers.js'
import type { BrokerLink } from './broker-link.js'
import type { Cluster } from './cluster.js'
import type { Compression } from './codec.js'
import type { MillraceError } from './errors.js'
import type { ResolvedProducerOptions } from './options.js'
import type { Outbox } from './outbox.js'
import type { PendingBatch } from './pending-batch.js'

export interface RipeQueue {
  sendRipe(): void
}

export interface QueueOwner {
  readonly cluster: Cluster
  readonly topicName: string
  readonly options: ResolvedProducerOptions
  readonly compression: Compression | null
  readonly producerId: BatchIdentity['producer']
  readonly buffers: BatchBuffers
  outboxOf(link: BrokerLink): Outbox
  onTaken(byteLength: number): void
  /** The queue has something to send that need not wait for the end of the turn. */
  onRipe(queue: RipeQueue): void
  /** The batch is over; `error` is null when it was acknowledged. */
  onDone(batch: PendingBatch, partition: number, error: MillraceError | null): void
}
