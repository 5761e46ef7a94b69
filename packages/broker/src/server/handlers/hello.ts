// HELLO: who the client wants to talk to, and whether it has found them.
import {
  ANY_CLUSTER,
  hello,
  helloReply,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  PROTOCOL_VERSION,
  ProtocolError,
  Reader,
} from '@millrace/protocol'
import type { Handler } from '../peer.js'

export const handleHello: Handler = (peer, request, { payload }) => {
  const { clusterId, nodeId, shardCount, software } = peer.context
  const greeting = hello.decode(new Reader(payload))
  if (greeting.minVersion > PROTOCOL_VERSION || greeting.maxVersion < PROTOCOL_VERSION) {
    const wanted = `${greeting.minVersion} to ${greeting.maxVersion}`
    throw new ProtocolError('UNSUPPORTED_VERSION', `the client speaks ${wanted}, this broker ${PROTOCOL_VERSION}`)
  }
  if (greeting.clusterId !== ANY_CLUSTER && greeting.clusterId !== clusterId) {
    throw new ProtocolError('WRONG_CLUSTER', `this is cluster ${clusterId}, not ${greeting.clusterId}`)
  }
  if (greeting.nodeId !== 0 && greeting.nodeId !== nodeId) {
    throw new ProtocolError('WRONG_NODE', `this is node ${nodeId}, not ${greeting.nodeId}`)
  }
  if (greeting.shard >= shardCount) {
    throw new ProtocolError('WRONG_SHARD', `shard ${greeting.shard} of ${shardCount}`)
  }
  peer.answer(request, helloReply, {
    version: PROTOCOL_VERSION,
    shard: greeting.shard,
    features: 0,
    clusterId,
    nodeId,
    shardCount,
    maxFrameBytes: MAX_FRAME_BYTES,
    maxBatchBytes: MAX_BATCH_BYTES,
    software,
  })
}
