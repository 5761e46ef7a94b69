// OFFSETS: where partitions begin, end, or stood at a time.
import {
  CODE_OK,
  ERROR_TABLE,
  type OffsetAnswer,
  type OffsetQuery,
  offsets,
  offsetsReply,
  Reader,
} from '@millrace/protocol'
import { findPartition, routeOf, type ServerContext } from '../context.js'
import { isBug, refusalOrBug } from '../failures.js'
import type { Handler, Peer, Request } from '../peer.js'

export const handleOffsets: Handler = (peer, request, { payload }) => {
  const { queries } = offsets.decode(new Reader(payload))
  peer.attend(request, answerAll(peer, request, queries))
}

async function answerAll(peer: Peer, request: Request, queries: readonly OffsetQuery[]): Promise<void> {
  const answers: OffsetAnswer[] = []
  for (const query of queries) answers.push(await answerOne(peer.context, query))
  peer.answer(request, offsetsReply, { answers })
}

async function answerOne(context: ServerContext, query: OffsetQuery): Promise<OffsetAnswer> {
  try {
    const partition = findPartition(context, query)
    await partition.upToDate()
    const { route, logStartOffset, highWatermark } = partition
    const found = query.kind === 'timestamp' ? await partition.offsetForTime(query.timestamp) : null
    const offset = found?.offset ?? (query.kind === 'earliest' ? logStartOffset : highWatermark)
    return { code: CODE_OK, offset, timestamp: found?.timestamp ?? null, term: route.term, route }
  } catch (error) {
    if (isBug(error)) context.reportBug(error, { kind: 'OFFSETS' })
    const { code } = refusalOrBug(error)
    context.metrics.refused(code)
    const route = routeOf(context, query)
    return { code: ERROR_TABLE[code].code, offset: 0, timestamp: null, term: 0, route }
  }
}
