// Whether a cluster whose brokers came and went has come to rest: its members and what they hold are as the metadata says.
import { isJoint } from '#src/raft/configuration.js'
import type { ReplicaGroup } from '#src/replication/replica-group.js'
import { isToHave } from './arrivals.js'
import type { BrokerNode } from './broker-node.js'
import { leaderOf } from './partition-moves.js'
import type { RunContext } from './run-context.js'

/** Waiting for what is left over to go takes as long as all the rest of a run. */
const WAITS_FOR_REST_RATE = 0.15

/** As soon as nothing is broken any more. */
export async function waitForMembers(run: RunContext): Promise<void> {
  const { nodes } = run.cluster
  await run.until(
    () => `the members are those that there are: ${membersAmiss(nodes).join('; ')}`,
    () => membersAmiss(nodes).length === 0,
  )
  await run.until(
    () => `every replica is as its leader's: ${replicasBehind(nodes).join(', ')} are not`,
    () => replicasBehind(nodes).length === 0,
  )
  run.coverage.count('members settled')
  if (!run.random.split('left over').chance(WAITS_FOR_REST_RATE)) return
  await run.until(
    () => `nothing is left where it does not belong: ${leftOver(nodes).join(', ')} are`,
    () => leftOver(nodes).length === 0,
  )
  run.coverage.count('nothing left over')
}

/** So many decide on the metadata when there are so many brokers. */
const votersFor = (brokers: number): number => (brokers < 3 ? 1 : brokers < 5 ? 3 : 5)

function membersAmiss(nodes: readonly BrokerNode[]): string[] {
  const metadata = nodes.find(({ broker }) => broker?.metadata.leads === true)?.broker?.metadata
  if (metadata === undefined) return ['nobody leads the metadata']
  const amiss: string[] = []
  const { configuration } = metadata
  const { voters, learners } = configuration
  const active = metadata.state.nodes().filter(({ state }) => state === 'active')
  const there = ids(nodes.map(({ nodeId }) => nodeId))
  if (ids(active.map(({ nodeId }) => nodeId)) !== there) {
    const known = metadata.state.nodes().map(({ nodeId, state }) => `${nodeId} ${state}`)
    amiss.push(`there are ${there}, and the metadata knows ${known.join(', ')}`)
  }
  if (isJoint(configuration) || voters.length !== votersFor(nodes.length)) {
    amiss.push(`${voters.join(' ')} decide on the metadata of ${nodes.length} brokers`)
  }
  if (ids([...voters, ...learners]) !== there) amiss.push(`the metadata group is ${ids([...voters, ...learners])}`)
  for (const { number, broker } of nodes) {
    if (broker?.metadata.version === metadata.version) continue
    amiss.push(`broker ${number} has version ${broker?.metadata.version} of ${metadata.version}`)
  }
  return amiss
}

const ids = (nodes: readonly number[]): string => [...nodes].sort((a, b) => a - b).join(' ')

/** Replicas that lack something, or that nobody has opened. */
function replicasBehind(nodes: readonly BrokerNode[]): string[] {
  const state = nodes.find(({ broker }) => broker?.metadata.leads === true)?.broker?.metadata.state
  const targets = (state?.topics() ?? []).flatMap(({ topicId, replicas }) => {
    return replicas.flatMap((target, partition) => target.map((nodeId) => ({ topicId, partition, nodeId })))
  })
  return targets.flatMap(({ topicId, partition, nodeId }) => {
    const leader = leaderOf(nodes, topicId, partition)
    const held = replicasOf(nodes.find((node) => node.nodeId === nodeId))
    const own = held.find(({ key }) => key.topicId === topicId && key.partition === partition)
    const isEqual = leader !== undefined && own !== undefined && own.log.flushedIndex === leader.log.filled.index
    return isEqual ? [] : [`${topicId}/${partition} on node ${nodeId}`]
  })
}

/** Data of partitions that are to be elsewhere, or are no more. */
function leftOver(nodes: readonly BrokerNode[]): string[] {
  return nodes.flatMap((node) =>
    replicasOf(node)
      .filter((replica) => replica.key.topicId !== 0 && !isToHave(nodes, node.nodeId, replica))
      .map(({ key }) => `${key.topicId}/${key.partition} on node ${node.nodeId}`),
  )
}

function replicasOf(node: BrokerNode | undefined): readonly ReplicaGroup[] {
  return [...(node?.broker?.replicas() ?? [])]
}
