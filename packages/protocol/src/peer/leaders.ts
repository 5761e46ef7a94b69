// LEADERS: partitions that have a new leader, from a broker that leads them: all it leads when a connection begins, then what
// changes. To whoever says LEADERS_WANTED, all that it knows.
//
//   fixed  u32 changes
//   tail   route changes of 20 bytes: u32 topic id, u32 partition, route
import { assert } from '../assert.js'
import type { RouteChange } from '../cluster-map.js'
import { MAX_LEADERS_PER_FRAME } from '../limits.js'
import { ROUTE_CHANGE_BYTES, readRouteChange, writeRouteChange } from '../map-entries.js'
import type { MessageCodec } from '../message.js'

export interface Leaders {
  readonly changes: readonly RouteChange[]
}

export const leaders: MessageCodec<Leaders> = {
  kind: 70,
  name: 'LEADERS',
  sender: 'peer',
  encode({ changes }, writer) {
    assert(changes.length <= MAX_LEADERS_PER_FRAME, 'changes within the limit of a frame')
    writer.fixed(() => writer.u32(changes.length))
    for (const change of changes) writeRouteChange(writer, change)
  },
  decode(reader) {
    const count = reader.fixed(() => reader.u32())
    return { changes: reader.list(count, ROUTE_CHANGE_BYTES, MAX_LEADERS_PER_FRAME, readRouteChange) }
  },
}
