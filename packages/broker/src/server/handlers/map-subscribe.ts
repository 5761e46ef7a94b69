// MAP_SUBSCRIBE: the cluster map now, and every change from now on.
import { mapDelta, mapHeartbeat, mapSnapshot, mapSubscribe, Reader } from '@millrace/protocol'
import type { MapSubscriber } from '../../cluster/map-publisher.js'
import type { Handler, Peer } from '../peer.js'

/** What each connection follows the map with; asking again brings a fresh snapshot and ends the one before. */
const subscriptions = new WeakMap<Peer, MapSubscriber>()

export const handleMapSubscribe: Handler = (peer, request, { payload }) => {
  mapSubscribe.decode(new Reader(payload))
  const { map } = peer.context
  const former = subscriptions.get(peer)
  if (former === undefined) peer.onceClosed(() => stopFollowing(peer))
  else map.unsubscribe(former)
  const subscriber: MapSubscriber = {
    onSnapshot: (snapshot) => peer.send(mapSnapshot, snapshot, request.id),
    onDelta: (delta) => peer.send(mapDelta, delta, request.id),
    onHeartbeat: (heartbeat) => peer.send(mapHeartbeat, heartbeat, request.id),
  }
  subscriptions.set(peer, subscriber)
  peer.isFollowing = true
  map.subscribe(subscriber)
  peer.finish(request)
}

function stopFollowing(peer: Peer): void {
  const subscriber = subscriptions.get(peer)
  if (subscriber !== undefined) peer.context.map.unsubscribe(subscriber)
}
