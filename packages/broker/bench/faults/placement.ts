// Whether a cluster that was left in peace is as it should be: every broker there, every replica where the metadata wants it
// and with everything in it, nothing on its way, and nobody back who was removed.
import type { Mill } from '@millrace/client'
import { type Admin, admin } from '@millrace/client/admin'
import type { ProcessCluster } from '../support/process-cluster.js'
import type { FaultTopic } from './fault-workload.js'
import type { Patience } from './patience.js'

/** A partition at rest: who has it, and how far it goes. */
export interface PlacedPartition {
  readonly topicId: number
  readonly partition: number
  /** In the history. */
  readonly label: string
  readonly nodes: readonly number[]
  /** Of the last batch, which every replica has. */
  readonly lastIndex: number
}

export interface PlacementOptions {
  readonly mill: Mill
  readonly cluster: ProcessCluster
  readonly removed: readonly number[]
  /** All of them; none where brokers alone matter. */
  readonly topics: readonly FaultTopic[]
  readonly patience: Patience
}

/** Waits until it is so. @throws Error that says what is missing when it does not come about. */
export async function untilPlaced(options: PlacementOptions): Promise<readonly PlacedPartition[]> {
  return options.patience.until('a cluster at rest', () => lookAround(options))
}

async function lookAround(options: PlacementOptions): Promise<readonly PlacedPartition[] | string> {
  const { mill, topics } = options
  const operator = admin(mill)
  const { underReplicated, leaderless } = await operator.clusterStatus()
  if (leaderless + underReplicated > 0) return `${leaderless} leaderless, ${underReplicated} under-replicated`
  const moves = await operator.moves()
  const [move] = moves
  if (move !== undefined) {
    const { voters, learners, target } = move
    return `${moves.length} moves, such as ${move.topic}/${move.partition} from ${voters} with ${learners} to ${target}`
  }
  const placed: PlacedPartition[] = []
  for (const topic of topics) {
    const partitions = await placementOf(operator, topic)
    if (typeof partitions === 'string') return partitions
    placed.push(...partitions)
  }
  return (await whatIsWrongWithMembers(options, placed)) ?? placed
}

async function placementOf(
  operator: Admin,
  { name, label, replicas }: FaultTopic,
): Promise<PlacedPartition[] | string> {
  const { topicId, partitions } = await operator.describeTopic(name)
  const placed: PlacedPartition[] = []
  for (const { partition, leader, replicas: copies } of partitions) {
    const behind = copies.filter(({ lagBatches, isLearner }) => lagBatches !== 0 || isLearner)
    const nodes = copies.map(({ nodeId }) => nodeId)
    const where = `${label}/${partition} led by ${leader} on ${nodes}`
    if (copies.length !== replicas || !nodes.includes(leader)) return `${where}, of ${replicas} replicas`
    if (behind.length > 0) return `${where}: ${behind.map(({ nodeId }) => nodeId)} behind`
    placed.push({
      topicId,
      partition,
      label,
      nodes,
      lastIndex: Math.max(...copies.map((copy) => copy.matchIndex ?? 0)),
    })
  }
  return placed
}

async function whatIsWrongWithMembers(
  { mill, cluster, removed, topics }: PlacementOptions,
  placed: readonly PlacedPartition[],
): Promise<string | null> {
  const members = await admin(mill).members()
  for (const nodeId of removed) {
    const state = members.find((member) => member.nodeId === nodeId)?.state
    if (state !== 'removed') return `node ${nodeId} was removed and is ${state}`
  }
  const there = members.filter(({ state }) => state !== 'removed')
  const due = cluster.nodes.map(({ nodeId }) => nodeId)
  const wrong = there.filter(({ nodeId, alive, state }) => !alive || state !== 'active' || !due.includes(nodeId))
  if (wrong.length > 0 || there.length !== due.length) {
    const told = there.map(({ nodeId, state, alive }) => `${nodeId} ${state}${alive ? '' : ' away'}`).join(', ')
    return `brokers ${due} are to be there, and there are ${told}`
  }
  for (const { nodeId, replicas } of there) {
    const has = placed.filter(({ nodes }) => nodes.includes(nodeId)).length
    if (topics.length > 0 && has !== replicas) return `node ${nodeId} is to have ${replicas} replicas and has ${has}`
  }
  const voters = there.filter(({ votes }) => votes).length
  const dueVoters = there.length < 3 ? 1 : there.length < 5 ? 3 : 5
  return voters === dueVoters ? null : `${voters} of ${there.length} brokers decide`
}
