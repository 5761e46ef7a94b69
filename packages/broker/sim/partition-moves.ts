// Partitions that get other replicas while everything else goes on: groups grow, shrink and move, and so do some of them that are
// on their way already.
import { ProtocolError } from '@millrace/protocol'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import { StorageError } from '#src/storage/log-store.js'
import type { BrokerNode } from './broker-node.js'
import type { Coverage } from './coverage.js'
import type { TopicOptions } from './options.js'
import { shuffled } from './partitions.js'
import type { SeededRandom } from './random.js'
import type { Scheduler } from './scheduler.js'

interface MoveTargets {
  readonly scheduler: Scheduler
  readonly nodes: readonly BrokerNode[]
  readonly coverage: Coverage
  readonly topics: readonly TopicOptions[]
}

/** Somebody asks for other replicas of a partition, of whom there are one to all. */
export function movePartition({ scheduler, nodes, coverage, topics }: MoveTargets, random: SeededRandom): void {
  const asked = nodes.find(({ broker }) => broker?.metadata.leads === true)
  const metadata = asked?.broker?.metadata
  const process = asked?.machine.environment?.process
  // What a buffered topic may lose is reckoned by the replicas that it began with.
  const movable = topics.filter(({ durability }) => durability === 'flushed')
  if (metadata === undefined || process === undefined || movable.length === 0) return
  const topic = metadata.state.topicByName(random.pick(movable).name)
  if (topic === undefined) return
  const partition = random.integer(0, topic.partitions - 1)
  const { topicId } = topic
  // A group that nobody leads yet may not have begun.
  if (leaderOf(nodes, topicId, partition) === undefined) return
  const ids = nodes.map(({ nodeId }) => nodeId)
  const replicas = shuffled(ids, random).slice(0, random.integer(1, ids.length))
  scheduler.schedule(process, 0, 'move', () => {
    metadata
      .propose(() => ({ kind: 'assignReplicas', assignments: [{ topicId, partition, replicas }] }))
      .then(
        () => coverage.count('partition given other replicas'),
        (error: unknown) => {
          if (!(error instanceof ProtocolError) && !(error instanceof StorageError)) throw error
        },
      )
  })
}

/** The replica that leads a group and serves; of two, any. */
export function leaderOf(nodes: readonly BrokerNode[], topicId: number, partition: number): ReplicaGroup | undefined {
  for (const { broker } of nodes) {
    for (const replica of broker?.replicas() ?? []) {
      const { key, isServing } = replica
      if (isServing && key.topicId === topicId && key.partition === partition) return replica
    }
  }
  return undefined
}
