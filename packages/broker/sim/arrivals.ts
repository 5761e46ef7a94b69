// Whether partitions that were given other replicas have come to them.
import { hasArrived } from '#src/cluster/partition-moves.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import type { BrokerNode } from './broker-node.js'
import { leaderOf } from './partition-moves.js'
import type { RunContext } from './run-context.js'

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
        return group !== undefined && hasArrived(group, target) ? [] : [`${name}/${partition}`]
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
