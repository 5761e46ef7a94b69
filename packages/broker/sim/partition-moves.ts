// Partitions that get other replicas while everything else goes on: groups grow, shrink and move, and so do some of them that are
// on their way already.
import { ProtocolError } from '@millrace/protocol'
import { isAtTarget } from '#src/replication/next-change.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import { StorageError } from '#src/storage/log-store.js'
import type { BrokerNode } from './broker-node.js'
import type { Coverage } from './coverage.js'
import type { TopicOptions } from './options.js'
import { shuffled } from './partitions.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
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

/** Every group is as the metadata wants it, as soon as nothing is broken any more. */
export async function waitForMoves(run: RunContext): Promise<void> {
  const { options, coverage } = run
  const { nodes } = run.cluster
  const away = (): string[] => {
    const state = nodes.find(({ broker }) => broker?.metadata.leads === true)?.broker?.metadata.state
    return options.topics.flatMap(({ name }) => {
      const topic = state?.topicByName(name)
      if (topic === undefined) return [name]
      return topic.replicas.flatMap((target, partition) => {
        const group = leaderOf(nodes, topic.topicId, partition)
        return group !== undefined && isAtTarget(target, group.configuration) ? [] : [`${name}/${partition}`]
      })
    })
  }
  await run.until(
    () => `partitions are where they are to be: ${away().join(', ')} are not`,
    () => away().length === 0,
  )
  coverage.count('partitions arrived')
}

/** Whether the node is to have a replica, as far as the metadata says. */
export function isToHave(nodes: readonly BrokerNode[], nodeId: number, { key }: ReplicaGroup): boolean {
  const states = nodes.flatMap(({ broker }) => broker?.metadata ?? [])
  const newest = states.reduce((best, other) => (other.version > best.version ? other : best))
  return newest.state.topic(key.topicId)?.replicas[key.partition]?.includes(nodeId) === true
}

function leaderOf(nodes: readonly BrokerNode[], topicId: number, partition: number): ReplicaGroup | undefined {
  for (const { broker } of nodes) {
    for (const replica of broker?.replicas() ?? []) {
      const { key, isServing } = replica
      if (isServing && key.topicId === topicId && key.partition === partition) return replica
    }
  }
  return undefined
}
