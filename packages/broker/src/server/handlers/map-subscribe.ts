// MAP_SUBSCRIBE: the cluster map now, and every change from now on.
import { mapDelta, mapHeartbeat, mapSnapshot, mapSubscribe, Reader } from '@millrace/protocol'
import type { MapSubscriber } from '../../cluster/map-publisher.js'
import type { Handler } from '../peer.js'

export const handleMapSubscribe: Handler = (peer, request, { payload }) => {
  mapSubscribe.decode(new Reader(payload))
  if (peer.isFollowing) {
    return peer.refuse(request, { code: 'INVALID_REQUEST', detail: 'the connection follows the map already' })
  }
  peer.isFollowing = true
  const { map } = peer.context
  const subscriber: MapSubscriber = {
    onSnapshot: (snapshot) => peer.send(mapSnapshot, snapshot, request.id),
    onDelta: (delta) => peer.send(mapDelta, delta, request.id),
    onHeartbeat: (heartbeat) => peer.send(mapHeartbeat, heartbeat, request.id),
  }
  peer.onceClosed(() => map.unsubscribe(subscriber))
  map.subscribe(subscriber)
  peer.finish(request)
}
