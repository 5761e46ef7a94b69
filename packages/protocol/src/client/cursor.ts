// Cursors: how records reach a consumer. The id of every frame is the cursor's, drawn by the client and never used
// again on its connection.
//
// CURSOR_OPEN       fixed  u32 topic id, u32 partition, u16 lane, u16 placement and u32 term of the known route,
//                          u8 start (0 offset, 1 earliest, 2 latest, 3 timestamp), u8 zero, u16 zero,
//                          u64 offset or timestamp, u32 term of the last record read (0: none), u32 zero, u64 credit
// CURSOR_OPENED     fixed  u64 offset it starts at, u64 log start, u64 high watermark, route
// CURSOR_CREDIT     fixed  u64 credit: position in decoded bytes, counted from 0 when the cursor was opened, up to
//                          which the broker may send; a batch is sent whenever the position reached is below it
// CURSOR_BATCHES    fixed  u64 high watermark, u32 batches, u32 zero; tail: batches, each log part and client part
// CURSOR_HEARTBEAT  fixed  u64 log start, u64 high watermark
// CURSOR_CLOSE      (see ping.ts)
// CURSOR_CLOSED     fixed  u16 code, u16 zero, u64 log start, u64 high watermark, route; tail: string detail
import { ProtocolError } from '../errors.js'
import type { MessageCodec } from '../message.js'
import { type Route, type RouteVersion, readRoute, writeRoute } from '../route.js'

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

export interface CursorOpened {
  readonly startOffset: number
  readonly logStartOffset: number
  readonly highWatermark: number
  readonly route: Route
}

export interface CursorCredit {
  readonly credit: number
}

export interface CursorBatches {
  readonly highWatermark: number
  readonly batchCount: number
  /** Batches end to end. The first may begin before the offset asked for. Encode writes only what is given here. */
  readonly batches: Uint8Array
}

export interface CursorHeartbeat {
  readonly logStartOffset: number
  readonly highWatermark: number
}

export interface CursorClosed {
  readonly code: number
  readonly logStartOffset: number
  readonly highWatermark: number
  readonly route: Route
  readonly detail: string
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

export const cursorOpened: MessageCodec<CursorOpened> = {
  kind: 31,
  name: 'CURSOR_OPENED',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => {
      writer.u64(m.startOffset).u64(m.logStartOffset).u64(m.highWatermark)
      writeRoute(writer, m.route)
    })
  },
  decode(reader) {
    return reader.fixed(() => ({
      startOffset: reader.u64(),
      logStartOffset: reader.u64(),
      highWatermark: reader.u64(),
      route: readRoute(reader),
    }))
  },
}

export const cursorCredit: MessageCodec<CursorCredit> = {
  kind: 32,
  name: 'CURSOR_CREDIT',
  sender: 'client',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.credit))
  },
  decode(reader) {
    return reader.fixed(() => ({ credit: reader.u64() }))
  },
}

export const cursorBatches: MessageCodec<CursorBatches> = {
  kind: 34,
  name: 'CURSOR_BATCHES',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.highWatermark).u32(m.batchCount).u32(0)).bytes(m.batches)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const highWatermark = reader.u64()
      const batchCount = reader.u32()
      reader.u32()
      return { highWatermark, batchCount }
    })
    return { ...fixed, batches: reader.bytes(reader.remaining) }
  },
}

export const cursorHeartbeat: MessageCodec<CursorHeartbeat> = {
  kind: 35,
  name: 'CURSOR_HEARTBEAT',
  sender: 'broker',
  encode(m, writer) {
    writer.fixed(() => writer.u64(m.logStartOffset).u64(m.highWatermark))
  },
  decode(reader) {
    return reader.fixed(() => ({ logStartOffset: reader.u64(), highWatermark: reader.u64() }))
  },
}

export const cursorClosed: MessageCodec<CursorClosed> = {
  kind: 36,
  name: 'CURSOR_CLOSED',
  sender: 'broker',
  encode(m, writer) {
    writer
      .fixed(() => {
        writer.u16(m.code).u16(0).u64(m.logStartOffset).u64(m.highWatermark)
        writeRoute(writer, m.route)
      })
      .string(m.detail)
  },
  decode(reader) {
    const fixed = reader.fixed(() => {
      const code = reader.u16()
      reader.u16()
      return { code, logStartOffset: reader.u64(), highWatermark: reader.u64(), route: readRoute(reader) }
    })
    return { ...fixed, detail: reader.string() }
  },
}
