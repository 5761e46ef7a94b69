// ADMIN: a rare operation, whose payload is a MessagePack map so that it can grow.
//
//   fixed  u16 operation, u16 zero, u64 map version the caller has seen (the broker waits until it has it)
//   tail   MessagePack, to the end of the frame
import type { MessageCodec } from '../message.js'

export const ADMIN_OPERATIONS = {
  createTopic: 1,
  deleteTopic: 2,
  describeTopic: 3,
  listTopics: 4,
  brokerStatus: 5,
  clusterStatus: 6,
  joinCluster: 7,
  members: 8,
  drainBroker: 9,
  removeBroker: 10,
  movePartition: 11,
  cancelMove: 12,
  moves: 13,
  alterTopic: 14,
  createGroupsTopic: 15,
  groupList: 16,
  groupDescribe: 17,
  groupReset: 18,
  groupDelete: 19,
} as const
export type AdminOperation = keyof typeof ADMIN_OPERATIONS

export interface AdminRequest {
  /** A number of ADMIN_OPERATIONS, or one that this version does not know. */
  readonly operation: number
  readonly mapVersion: number
  /** MessagePack. */
  readonly payload: Uint8Array
}

export const admin: MessageCodec<AdminRequest> = {
  kind: 50,
  name: 'ADMIN',
  sender: 'client',
  encode(m, writer) {
    writer.fixed(() => writer.u16(m.operation).u16(0).u64(m.mapVersion)).bytes(m.payload)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const operation = reader.u16()
      reader.u16()
      return { operation, mapVersion: reader.u64() }
    })
    return { ...fixed, payload: reader.bytes(reader.remaining) }
  },
}
