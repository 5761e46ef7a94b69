// PRODUCE: batches of many partitions of one shard; the deadline of the frame header holds for all.
//
//   fixed  u8 acks (0 none, 1 leader, 2 all), u8 zero, u16 entries
//   tail   entries of 24 bytes: u32 topic id, u32 partition, u16 lane, u16 placement and u32 term of the route the
//          client knows, u32 length of the batch, u32 zero;
//          then the batches (client parts) in the same order
//
// With acks 0 there is no PRODUCE_REPLY.
import { assert } from '../assert.js'
import { ProtocolError } from '../errors.js'
import { MAX_ENTRIES_PER_FRAME } from '../limits.js'
import type { MessageCodec } from '../message.js'
import { BATCH_HEADER_BYTES } from '../record-batch.js'
import type { RouteVersion } from '../route.js'

export const ACKS_IDS = { none: 0, leader: 1, all: 2 } as const
/** When the producer is told: handed to the socket, appended by the leader, committed. */
export type Acks = keyof typeof ACKS_IDS
const ACKS_NAMES: readonly Acks[] = ['none', 'leader', 'all']

export const PRODUCE_ENTRY_BYTES = 24

export interface ProduceEntry {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  readonly routeVersion: RouteVersion
  /** Bytes of the batch. */
  readonly batchLength: number
}

export interface Produce {
  readonly acks: Acks
  readonly entries: readonly ProduceEntry[]
  /**
   * Where the first batch begins in the payload, after decoding; the others follow without gaps. Ignored by encode:
   * the sender writes the batches behind the encoded message.
   */
  readonly batchesStart: number
}

export const produce: MessageCodec<Produce> = {
  kind: 20,
  name: 'PRODUCE',
  sender: 'client',
  encode(m, writer) {
    assert(m.entries.length >= 1 && m.entries.length <= MAX_ENTRIES_PER_FRAME, '1 to the limit of batches a frame')
    writer.fixed(() => writer.u8(ACKS_IDS[m.acks]).u8(0).u16(m.entries.length))
    for (const e of m.entries) {
      writer.u32(e.topicId).u32(e.partition).u16(e.lane).u16(e.routeVersion.placement).u32(e.routeVersion.term)
      writer.u32(e.batchLength).u32(0)
    }
  },
  /** The batches end where the frame does: more or fewer bytes than the entries announce are CORRUPT_FRAME. */
  decode(reader) {
    const { acks, count } = reader.fixed(() => {
      const acks = ACKS_NAMES[reader.u8()]
      reader.u8()
      return { acks, count: reader.u16() }
    })
    if (acks === undefined) throw new ProtocolError('CORRUPT_FRAME', 'an unknown value of acks')
    if (count === 0) throw new ProtocolError('CORRUPT_FRAME', 'a produce frame without batches')
    reader.count(count, PRODUCE_ENTRY_BYTES + BATCH_HEADER_BYTES, MAX_ENTRIES_PER_FRAME)
    let batchBytes = 0
    const entries: ProduceEntry[] = []
    for (let i = 0; i < count; i++) {
      const topicId = reader.u32()
      const partition = reader.u32()
      const lane = reader.u16()
      const placement = reader.u16()
      const term = reader.u32()
      const batchLength = reader.u32()
      reader.u32()
      if (batchLength < BATCH_HEADER_BYTES) throw new ProtocolError('CORRUPT_FRAME', `a batch of ${batchLength} bytes`)
      batchBytes += batchLength
      entries.push({ topicId, partition, lane, routeVersion: { term, placement }, batchLength })
    }
    if (batchBytes !== reader.remaining) {
      throw new ProtocolError('CORRUPT_FRAME', `${batchBytes} bytes of batches announced, ${reader.remaining} there`)
    }
    return { acks, entries, batchesStart: reader.position }
  },
}
