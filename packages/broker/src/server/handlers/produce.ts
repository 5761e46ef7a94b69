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
import type { Block } from '../../environment.js'
import { type BatchSink, PendingBatch, type Refusal } from '../../partition/pending-batch.js'
import { findPartition } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

const NO_ROUTE: Route = { nodeId: 0, shard: 0, placement: 0, term: 0 }

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
      work.routes[i] = partition.route
      partition.append(batch)
    } catch (error) {
      work.failed(batch, error)
    }
  }
}

/** Collects the results of one frame. */
class ProduceRequest implements BatchSink {
  readonly routes: Route[]
  readonly #results: ProduceResult[]
  #untaken: number
  #unsettled: number

  constructor(
    readonly peer: Peer,
    readonly request: Request,
    readonly block: Block,
    readonly acks: Acks,
    entries: number,
  ) {
    this.routes = new Array<Route>(entries).fill(NO_ROUTE)
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
      route: this.routes[batch.entry]!,
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
  failed(batch: PendingBatch, error: unknown): void {
    if (isBug(error)) this.peer.context.reportBug(error, { kind: 'PRODUCE' })
    this.taken(batch)
    this.settled(batch, refusalOrBug(error))
  }
}
