// The cluster as a user of the client may look at it: the map, and where a key goes.
import type { ClusterMap, CodecName, Durability, Route, TopicInfo } from '@millrace/protocol'
import { showAddress } from './address.js'
import type { Cluster } from './cluster.js'
import type { MillraceError } from './errors.js'
import type { Lifeline } from './lifeline.js'
import { partitionFor } from './partitioner.js'
import { Scratch } from './scratch.js'
import { type Observable, type Observer, observable } from './streams/observe.js'
import { bytesTopic, type Topic } from './topic.js'
import { TopicLookup } from './topic-lookup.js'

/** Where a record with this key goes, as far as it is known. */
export interface Whereabouts {
  readonly topic: string
  readonly partition: number
  /** 0 while the partition has no leader. */
  readonly nodeId: number
  /** The core of that node. */
  readonly shard: number
  /** Version of the route: the term of the leader … */
  readonly term: number
  /** … and how often the partition moved between its cores. */
  readonly placement: number
  /** `host:port`; null when the node is not in the map. */
  readonly address: string | null
  /** The same in a sentence, from the key to the node. */
  readonly explanation: string
}

export interface MapNode {
  readonly nodeId: number
  readonly host: string
  readonly port: number
  /** Cores that serve partitions. */
  readonly shardCount: number
}

export interface MapPartition {
  readonly partition: number
  /** Of the leader; 0 while there is none. */
  readonly nodeId: number
  /** The core of that node. */
  readonly shard: number
  /** Version of the route: term first, then placement. */
  readonly term: number
  readonly placement: number
}

export interface MapTopic {
  readonly topicId: number
  readonly name: string
  readonly durability: Durability
  readonly codecs: readonly CodecName[]
  readonly partitions: readonly MapPartition[]
}

/** The cluster map at one moment. Frozen: looking at it changes nothing. */
export interface ClusterMapView {
  readonly clusterId: string
  /** Position in the metadata log that nodes and topics are of. Leaders have versions of their own. */
  readonly version: number
  readonly nodes: readonly MapNode[]
  readonly topics: readonly MapTopic[]
}

/** Looks into the cluster map. */
export interface ClusterView {
  /**
   * The map now and after every change, at most once a turn of the event loop. Subscribing looks for a broker when none
   * is known yet, and errors with CONNECTION when none is found; it does not keep the process alive. Completes on close.
   */
  readonly map$: Observable<ClusterMapView>
  /**
   * Explains the route of a key; `null` stands for partition 0.
   * @throws MillraceError CONNECTION, UNKNOWN_TOPIC, SERIALIZATION, INVALID_ARGUMENT by the topic's partitioner.
   */
  whereIs<K, V>(topic: Topic<K, V>, key: K | null): Promise<Whereabouts>
  whereIs(topic: string, key: Uint8Array | null): Promise<Whereabouts>
}

export function viewCluster(cluster: Cluster, lifeline: Lifeline): ClusterView {
  return {
    map$: observable((observer) => followMap(cluster, observer)),
    whereIs: <K, V>(topic: Topic<K, V> | string, key: K | Uint8Array | null) =>
      typeof topic === 'string'
        ? whereIs(cluster, lifeline, bytesTopic(topic), key as Uint8Array | null)
        : whereIs(cluster, lifeline, topic, key as K | null),
  }
}

function followMap(cluster: Cluster, observer: Observer<ClusterMapView>): () => void {
  let scheduled = false
  let over = false
  const emit = (): void => {
    scheduled = false
    if (!over && cluster.hasMap) observer.next(freeze(cluster.map))
  }
  const emitSoon = (): void => {
    if (scheduled) return
    scheduled = true
    cluster.environment.defer(emit)
  }
  const stopChanges = cluster.changes.listen(emitSoon)
  const stopStatus = cluster.status.listen(({ kind }) => {
    if (kind !== 'closed') return
    stop()
    observer.complete()
  })
  const waiter = {
    onMap: emitSoon,
    onNoMap: (error: MillraceError) => {
      stop()
      observer.error(error)
    },
  }
  const stop = (): void => {
    over = true
    stopChanges()
    stopStatus()
    cluster.forget(waiter)
  }
  cluster.whenMap(waiter)
  return stop
}

/** Topics do not change, they are replaced, and so are routes: each is shown once. */
const shown = new WeakMap<TopicInfo, MapTopic>()
const shownRoutes = new WeakMap<Route, MapPartition>()

function freeze(map: ClusterMap): ClusterMapView {
  return Object.freeze({
    clusterId: map.clusterId ?? '',
    version: map.version,
    nodes: Object.freeze(
      map.nodes().map(({ nodeId, host, port, shardCount }) => Object.freeze({ nodeId, host, port, shardCount })),
    ),
    topics: Object.freeze(map.topics().map(freezeTopic)),
  })
}

function freezeTopic(topic: TopicInfo): MapTopic {
  let view = shown.get(topic)
  if (view === undefined) {
    const { topicId, name, durability, codecs, routes } = topic
    const partitions = routes.map(freezeRoute)
    const lists = { codecs: Object.freeze([...codecs]), partitions: Object.freeze(partitions) }
    view = Object.freeze({ topicId, name, durability, ...lists })
    shown.set(topic, view)
  }
  return view
}

/** Of a topic of thousands of partitions a few change at a time. */
function freezeRoute(route: Route, partition: number): MapPartition {
  const before = shownRoutes.get(route)
  if (before?.partition === partition) return before
  const { nodeId, shard, term, placement } = route
  const view = Object.freeze({ partition, nodeId, shard, term, placement })
  shownRoutes.set(route, view)
  return view
}

async function whereIs<K, V>(
  cluster: Cluster,
  lifeline: Lifeline,
  topic: Topic<K, V>,
  key: K | null,
): Promise<Whereabouts> {
  const bytes = key === null ? null : topic.key.encode(key, new Scratch())
  const found = (): Promise<TopicInfo> =>
    new Promise((onTopic, onNoTopic) => new TopicLookup(cluster, topic.name, { onTopic, onNoTopic }).start())
  const info = await lifeline.during(found)
  const { partitioner = null } = topic
  const partition = bytes === null ? 0 : partitionFor(info, bytes, partitioner)
  const { nodeId, shard, term, placement } = info.routes[partition]!
  const node = cluster.map.node(nodeId)
  const address = node === undefined ? null : showAddress(node)
  const rule = partitioner === null ? 'murmur2' : 'the partitioner of the topic'
  const from = bytes === null ? 'no key' : `${rule} of a key of ${bytes.length} bytes`
  const place = `${from}: partition ${partition} of ${info.routes.length} of ${info.name}`
  const led = `led by node ${nodeId}, core ${shard}, at ${address ?? 'an address not known yet'}, in term ${term}`
  const explanation = `${place}, ${nodeId === 0 ? 'whose leader is not known at the moment' : led}`
  return { topic: info.name, partition, nodeId, shard, term, placement, address, explanation }
}
