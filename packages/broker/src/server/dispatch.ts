// Which handler takes which kind of frame. Kinds that only brokers send are not in the table.
import {
  admin,
  cursorClose,
  cursorCredit,
  cursorOpen,
  groupBeat,
  groupCommit,
  groupJoin,
  hello,
  mapSubscribe,
  offsets,
  ping,
  produce,
} from '@millrace/protocol'
import { handleAdmin } from './handlers/admin.js'
import { handleCursorClose, handleCursorCredit, handleCursorOpen } from './handlers/cursors.js'
import { handleGroupBeat, handleGroupCommit, handleGroupJoin } from './handlers/groups.js'
import { handleHello } from './handlers/hello.js'
import { handleMapSubscribe } from './handlers/map-subscribe.js'
import { handleOffsets } from './handlers/offsets.js'
import { handlePing } from './handlers/ping.js'
import { handleProduce } from './handlers/produce.js'
import type { Handler } from './peer.js'

const HANDLERS = new Map<number, Handler>([
  [hello.kind, handleHello],
  [ping.kind, handlePing],
  [mapSubscribe.kind, handleMapSubscribe],
  [produce.kind, handleProduce],
  [cursorOpen.kind, handleCursorOpen],
  [cursorCredit.kind, handleCursorCredit],
  [cursorClose.kind, handleCursorClose],
  [offsets.kind, handleOffsets],
  [groupJoin.kind, handleGroupJoin],
  [groupBeat.kind, handleGroupBeat],
  [groupCommit.kind, handleGroupCommit],
  [admin.kind, handleAdmin],
])

export function handlerOf(kind: number): Handler | undefined {
  return HANDLERS.get(kind)
}
