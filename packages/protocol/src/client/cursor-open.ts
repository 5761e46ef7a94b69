// CURSOR_OPEN: a consumer begins to follow a partition. Its id is the cursor's: drawn by the client, named by every
// frame of the cursor in both directions, and never used again on its connection.
//
//   fixed  u32 topic id, u32 partition, u16 lane, u16 placement and u32 term of the known route,
//          u8 start (0 offset, 1 earliest, 2 latest, 3 timestamp), u8 zero, u16 zero,
//          u64 offset or timestamp, u32 term of the last record read (0: none), u32 zero, u64 credit
import { ProtocolError } from '../errors.js'
import type { MessageCodec } from '../message.js'
import type { RouteVersion } from '../route.js'

const START_IDS = { offset: 0, earliest: 1, latest: 2, timestamp: 3 } as const
export type CursorStart = keyof typeof START_IDS
const START_NAMES: readonly CursorStart[] = ['offset', 'earliest', 'latest', 'timestamp']

export interface CursorOpen {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  readonly routeVersion: RouteVersion
  readonly start: CursorStart
  /** Offset or milliseconds since 1970, by `start`; 0 otherwise. */
  readonly position: number
  /** Term of the last record read before this offset; 0 when none was. Finds a log that has diverged. */
  readonly lastTerm: number
  /** Decoded bytes. */
  readonly credit: number
}

export const cursorOpen: MessageCodec<CursorOpen> = {
  kind: 30,
  name: 'CURSOR_OPEN',
  sender: 'client',
  encode(m, writer) {
    writer.fixed(() => {
      writer.u32(m.topicId).u32(m.partition).u16(m.lane).u16(m.routeVersion.placement).u32(m.routeVersion.term)
      writer.u8(START_IDS[m.start]).u8(0).u16(0).u64(m.position).u32(m.lastTerm).u32(0).u64(m.credit)
    })
  },
  decode(reader) {
    return reader.fixed(() => {
      const topicId = reader.u32()
      const partition = reader.u32()
      const lane = reader.u16()
      const placement = reader.u16()
      const term = reader.u32()
      const start = START_NAMES[reader.u8()]
      if (start === undefined) throw new ProtocolError('CORRUPT_FRAME', 'an unknown start of a cursor')
      reader.u8()
      reader.u16()
      const position = reader.u64()
      const lastTerm = reader.u32()
      reader.u32()
      return {
        topicId,
        partition,
        lane,
        routeVersion: { term, placement },
        start,
        position,
        lastTerm,
        credit: reader.u64(),
      }
    })
  },
}
