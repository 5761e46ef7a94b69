// PRODUCE: batches of many partitions, each with a result of its own; the reply leaves when the last one is known.
import {
  type Acks,
  CODE_OK,
  ERROR_TABLE,
  type ProduceResult,
  ProtocolError,
  produce,
  produceReply,
  Reader,
  type Route,
} from '@millrace/protocol'
import { NO_ROUTE } from '../../cluster/leader-table.js'
import type { Block } from '../../environment.js'
import type { Partition } from '../../partition/partition.js'
import { type BatchSink, PendingBatch, type Refusal } from '../../partition/pending-batch.js'
import { findPartition, routeOf } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

const INTERNAL_TOPIC = 'only brokers write to this topic'

export const handleProduce: Handler = (peer, request, { payload, block }) => {
  if (block === null) throw new ProtocolError('CORRUPT_FRAME', 'a produce frame without payload')
  let message: ReturnType<typeof produce.decode>
  try {
    message = produce.decode(new Reader(payload))
  } catch (error) {
    peer.context.frameMemory.give(block)
    throw error
  }
  const work = new ProduceRequest(peer, request, block, message.acks, message.entries.length)
  let at = message.batchesStart
  for (let i = 0; i < message.entries.length; i++) {
    const entry = message.entries[i]!
    const batch = new PendingBatch(work, i, block, at, entry.batchLength, request.expiresAtMs)
    at += entry.batchLength
    try {
      const partition = findPartition(peer.context, entry)
      if (peer.context.shard.isInternal(entry.topicId)) throw new ProtocolError('INVALID_REQUEST', INTERNAL_TOPIC)
      work.partitions[i] = partition
      partition.append(batch)
    } catch (error) {
      work.failed(batch, error, routeOf(peer.context, entry))
    }
  }
}

/** Collects the results of one frame. */
class ProduceRequest implements BatchSink {
  readonly partitions: (Partition | undefined)[]
  readonly #results: ProduceResult[]
  #untaken: number
  #unsettled: number
  #refusedRoute: Route = NO_ROUTE

  constructor(
    readonly peer: Peer,
    readonly request: Request,
    readonly block: Block,
    readonly acks: Acks,
    entries: number,
  ) {
    this.partitions = new Array<Partition | undefined>(entries)
    this.#results = new Array<ProduceResult>(entries)
    this.#untaken = entries
    this.#unsettled = entries
  }

  taken(_batch: PendingBatch): void {
    if (--this.#untaken > 0) return
    this.peer.context.frameMemory.give(this.block)
    // Nobody waits for the results: the request is over once its bytes are.
    if (this.acks === 'none') this.peer.finish(this.request)
  }

  settled(batch: PendingBatch, refusal: Refusal | null): void {
    if (refusal !== null) this.peer.context.metrics.refused(refusal.code)
    if (this.acks === 'none') return
    this.#results[batch.entry] = {
      code: refusal === null ? CODE_OK : ERROR_TABLE[refusal.code].code,
      baseOffset: refusal === null ? batch.baseOffset : null,
      appendTime: refusal === null ? batch.appendTime : 0,
      route: this.partitions[batch.entry]?.route ?? this.#refusedRoute,
      detail: refusal?.detail ?? '',
    }
    if (--this.#unsettled === 0) this.#answer()
  }

  /** Called while a log tells of its progress, which must not stop for a reply. */
  #answer(): void {
    try {
      this.peer.answer(this.request, produceReply, { results: this.#results })
    } catch (error) {
      this.peer.context.reportBug(error, { kind: 'PRODUCE_REPLY' })
    }
  }

  /** The batch never got into a partition's hands, or a bug let it fall. */
  failed(batch: PendingBatch, error: unknown, route: Route): void {
    this.#refusedRoute = route
    if (isBug(error)) this.peer.context.reportBug(error, { kind: 'PRODUCE' })
    this.taken(batch)
    this.settled(batch, refusalOrBug(error))
  }
}
