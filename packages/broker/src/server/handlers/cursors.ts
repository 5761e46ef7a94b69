// CURSOR_OPEN, CURSOR_CREDIT, CURSOR_CLOSE: a consumer's place in a partition.
import {
  type CursorOpen,
  cursorClose,
  cursorCredit,
  cursorOpen,
  cursorOpened,
  MAX_CURSORS_PER_CONNECTION,
  ProtocolError,
  Reader,
} from '@millrace/protocol'
import type { Partition } from '../../partition/partition.js'
import { findPartition, routeOf } from '../context.js'
import { Cursor } from '../cursor.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

const NOWHERE = { logStartOffset: 0, highWatermark: 0 }
const NO_ROUTE = { nodeId: 0, shard: 0, placement: 0, term: 0 }

export const handleCursorOpen: Handler = (peer, request, { payload }) => {
  const open = cursorOpen.decode(new Reader(payload))
  const { cursors } = peer
  if (cursors.knows(request.id)) throw new ProtocolError('CURSOR_ID_IN_USE', `cursor ${request.id}`)
  if (cursors.size >= MAX_CURSORS_PER_CONNECTION) {
    cursors.refuse(request.id, NO_ROUTE, { code: 'TOO_MANY_CURSORS', detail: `${cursors.size} are open` }, NOWHERE)
    return peer.finish(request)
  }
  let partition: Partition
  try {
    partition = findPartition(peer.context, open)
  } catch (error) {
    cursors.refuse(request.id, routeOf(peer.context, open), refusalOrBug(error), NOWHERE)
    return peer.finish(request)
  }
  const cursor = new Cursor(request.id, partition, open.credit, (ready) => cursors.wake(ready))
  cursors.add(cursor)
  peer.attend(request, begin(peer, request, open, cursor))
}

async function begin(peer: Peer, request: Request, open: CursorOpen, cursor: Cursor): Promise<void> {
  const { partition } = cursor
  try {
    await partition.upToDate()
    const offset = await startOffset(partition, open)
    if (!cursor.ended) {
      peer.send(cursorOpened, { startOffset: offset, ...cursor.bounds, route: partition.route }, cursor.id)
      cursor.begin(offset)
    }
  } catch (error) {
    if (isBug(error)) peer.context.reportBug(error, { kind: 'CURSOR_OPEN' })
    if (!cursor.ended) peer.cursors.refuse(cursor.id, partition.route, refusalOrBug(error), cursor.bounds)
  }
  peer.finish(request)
}

/** @throws ProtocolError OFFSET_OUT_OF_RANGE, LOG_DIVERGED; StorageError. */
async function startOffset(partition: Partition, open: CursorOpen): Promise<number> {
  switch (open.start) {
    case 'earliest':
      return partition.logStartOffset
    case 'latest':
      return partition.highWatermark
    case 'timestamp':
      return (await partition.offsetForTime(open.position))?.offset ?? partition.highWatermark
    case 'offset':
      await checkOffset(partition, open.position, open.lastTerm)
      return open.position
  }
}

async function checkOffset(partition: Partition, offset: number, lastTerm: number): Promise<void> {
  const { logStartOffset, highWatermark } = partition
  if (offset > highWatermark && lastTerm !== 0) {
    throw new ProtocolError('LOG_DIVERGED', `the log ends at ${highWatermark}, before offset ${offset}`)
  }
  if (offset < logStartOffset || offset > highWatermark) {
    throw new ProtocolError(
      'OFFSET_OUT_OF_RANGE',
      `offset ${offset}, the log has ${logStartOffset} to ${highWatermark}`,
    )
  }
  if (lastTerm === 0 || offset === logStartOffset) return
  const term = await partition.termAt(offset - 1)
  if (term !== lastTerm) {
    throw new ProtocolError('LOG_DIVERGED', `offset ${offset - 1} was read in term ${lastTerm}, and is of term ${term}`)
  }
}

export const handleCursorCredit: Handler = (peer, request, { payload }) => {
  const { credit } = cursorCredit.decode(new Reader(payload))
  // Credit for a cursor that has ended meanwhile is no fault of the client.
  peer.cursors.find(request.id)?.give(credit)
  peer.finish(request)
}

export const handleCursorClose: Handler = (peer, request, { payload }) => {
  cursorClose.decode(new Reader(payload))
  const cursor = peer.cursors.find(request.id)
  if (cursor !== undefined) peer.cursors.remove(cursor)
  peer.finish(request)
}
