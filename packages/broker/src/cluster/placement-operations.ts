// What operators change about where things are: brokers drained and removed, partitions moved, topics altered. Carried out by
// the node that leads the metadata; how far the groups have come is asked of those who lead them.
import { isReservedTopicName, MAX_PARTITIONS_PER_TOPIC, ProtocolError } from '@millrace/protocol'
import type { Clock } from '../environment.js'
import { count, flag, nodeList, numberOrNull } from '../fields.js'
import { ASSIGNMENTS_PER_COMMAND, MAX_PARTITIONS, REMOVAL_POLL_MS, REMOVAL_WAIT_MS } from '../limits.js'
import type { Fields } from '../message-pack.js'
import { hasBegun, untilBegun } from './begun-groups.js'
import type { ClusterMembers } from './cluster-members.js'
import type { LeaderTable } from './leader-table.js'
import type { Assignment, MetadataCommand, TopicDefinition } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import type { MetadataState } from './metadata-state.js'
import { checkLimit } from './new-topic.js'
import { Load, placeableNodes, placeReplicas, planDrain, planFactor } from './placement.js'

export interface PlacementContext {
  readonly metadata: MetadataLog
  readonly members: ClusterMembers
  readonly leaders: LeaderTable
  readonly clock: Clock
}

/**
 * Nothing new is placed on the node, and what it has goes elsewhere, apart from partitions that never had a leader: asking
 * again takes those along that have one by then. `undo` makes it like any other again; what has gone stays.
 */
export async function drainBroker(context: PlacementContext, fields: Fields): Promise<unknown> {
  const { metadata, leaders, clock } = context
  const nodeId = count(fields, 'nodeId')
  const isUndone = fields.undo !== undefined && flag(fields, 'undo')
  existing(metadata.state, nodeId)
  if (isUndone || metadata.state.node(nodeId)?.state !== 'draining') {
    await metadata.propose((state) => {
      existing(state, nodeId)
      if (!isUndone) checkDrain(state, nodeId)
      return { kind: 'drainNode', nodeId, drain: !isUndone }
    })
  }
  if (isUndone) return { moves: 0, waiting: 0 }
  const whole = (state: MetadataState): readonly Assignment[] => planDrain(nodeId, state.topics(), state.nodes())
  await untilBegun(clock, whole(metadata.state), (key) => hasBegun(leaders, metadata.state, key))
  const plan = (state: MetadataState) => whole(state).filter((key) => hasBegun(leaders, state, key))
  let moves = 0
  while (plan(metadata.state).length > 0) {
    const command = await metadata.propose((state) => {
      const assignments = plan(state).slice(0, ASSIGNMENTS_PER_COMMAND)
      return { kind: 'assignReplicas', assignments }
    })
    if (command.kind === 'assignReplicas') moves += command.assignments.length
  }
  return { moves, waiting: metadata.state.replicasOn(nodeId) }
}

function checkDrain(state: MetadataState, nodeId: number): void {
  const others = state.nodes().filter((node) => node.state === 'active' && node.nodeId !== nodeId)
  if (others.length === 0) throw new ProtocolError('INVALID_CONFIG', `node ${nodeId} is the only active broker`)
  planDrain(nodeId, state.topics(), state.nodes())
}

/**
 * The node is gone for good. Without `force` only when nothing is left on it: no partition is to have a replica there, no
 * group has one still, and it has no say in the metadata. Where it has, the answer waits a moment until others decide without
 * it, and tells whether they do: as long as they count on a node that is dead, one more that dies may be one too many. Asking
 * again waits on.
 */
export async function removeBroker(context: PlacementContext, fields: Fields): Promise<unknown> {
  const { metadata, clock } = context
  const nodeId = count(fields, 'nodeId')
  const isRemoved = metadata.state.node(nodeId)?.state === 'removed'
  const mayDecide = (): boolean => decides(metadata, nodeId) || !metadata.isConfigurationCommitted
  if (!isRemoved || !mayDecide()) await proposeRemoval(context, fields)
  const endMs = clock.monotonicMs() + REMOVAL_WAIT_MS
  while (mayDecide() && clock.monotonicMs() < endMs) {
    await new Promise<void>((resolve) => clock.timer(REMOVAL_POLL_MS, resolve))
  }
  return { nodeId, decides: mayDecide() }
}

async function proposeRemoval({ metadata }: PlacementContext, fields: Fields): Promise<void> {
  const nodeId = count(fields, 'nodeId')
  const isForced = fields.force !== undefined && flag(fields, 'force')
  const held = fields.held === undefined ? 0 : count(fields, 'held')
  const leaderless = fields.leaderless === undefined ? 0 : count(fields, 'leaderless')
  await metadata.propose((state) => {
    existing(state, nodeId)
    const replicas = state.replicasOn(nodeId)
    if (replicas > 0) refuse(`node ${nodeId} is to have ${replicas} replicas: drain it first`)
    if (held > 0 && !isForced) refuse(`${held} partitions have not left node ${nodeId} yet: wait, or force it`)
    if (leaderless > 0 && !isForced) {
      const found = `${leaderless} partitions without a leader may have records on node ${nodeId} that nobody else has`
      refuse(`${found}: start the brokers that are away and wait, or force it`)
    }
    checkSay(metadata, nodeId, isForced)
    return { kind: 'removeNode', nodeId }
  })
}

/** Whether the metadata group counts on the node, in force or on the way there. */
function decides({ configuration: { voters, outgoing } }: MetadataLog, nodeId: number): boolean {
  return voters.includes(nodeId) || outgoing.includes(nodeId)
}

/** A node that decides on the metadata is first taken out of those who do: that is what draining brings about. */
function checkSay(metadata: MetadataLog, nodeId: number, isForced: boolean): void {
  if (!decides(metadata, nodeId)) return
  const { configuration, leader } = metadata
  if (nodeId === leader || configuration.voters.length === 1)
    refuse(`node ${nodeId} leads the metadata: drain it, and wait a moment`)
  if (!isForced) refuse(`node ${nodeId} still decides on the metadata: drain it and wait a moment, or force it`)
}

function existing(state: MetadataState, nodeId: number): void {
  const node = state.node(nodeId)
  if (node === undefined) refuse(`there is no node ${nodeId}`)
  if (node.state === 'removed') throw new ProtocolError('NODE_REMOVED', `node ${nodeId} was removed from the cluster`)
}

function refuse(detail: string): never {
  throw new ProtocolError('INVALID_CONFIG', detail)
}

/** @throws ProtocolError UNKNOWN_TOPIC, UNKNOWN_PARTITION, INVALID_CONFIG. */
export async function movePartition(context: PlacementContext, fields: Fields): Promise<unknown> {
  const { metadata, members } = context
  const partition = count(fields, 'partition')
  const to = nodeList(fields.to, 'to')
  await refuseUnbegun(context, topicOf(metadata.state, fields), [partition])
  await metadata.propose((state) => {
    const { topicId, partitions } = topicOf(state, fields)
    if (partition >= partitions) throw new ProtocolError('UNKNOWN_PARTITION', `the topic has ${partitions} partitions`)
    const active = new Set(placeableNodes(state.nodes(), members.ids).map(({ nodeId }) => nodeId))
    for (const nodeId of to) if (!active.has(nodeId)) refuse(`node ${nodeId} is no active broker of this cluster`)
    return { kind: 'assignReplicas', assignments: [{ topicId, partition, replicas: to }] }
  })
  return { partition, to }
}

/** @throws ProtocolError INVALID_CONFIG for a partition that never had a leader. */
async function refuseUnbegun(
  context: PlacementContext,
  topic: TopicDefinition,
  partitions: readonly number[],
): Promise<void> {
  const { metadata, leaders, clock } = context
  const { topicId, name, replicas } = topic
  const keys = partitions.map((partition) => ({ topicId, partition }))
  const begun = (key: (typeof keys)[number]): boolean => hasBegun(leaders, metadata.state, key)
  await untilBegun(clock, keys, begun)
  const waiting = keys.find((key) => !begun(key))
  if (waiting === undefined) return
  const nodes = replicas[waiting.partition]!.join(', ')
  refuse(
    `partition ${waiting.partition} of ${name} has had no leader yet: most of its brokers (${nodes}) have to be up`,
  )
}

/**
 * More partitions, more or fewer replicas of each, or other limits on what is kept.
 * @throws ProtocolError UNKNOWN_TOPIC, INVALID_CONFIG; also for more partitions without `breakKeyOrder`.
 */
export async function alterTopic(context: PlacementContext, fields: Fields): Promise<unknown> {
  const { metadata } = context
  const { name: given } = fields
  if (typeof given === 'string' && isReservedTopicName(given))
    refuse(`${given} is the brokers' own: they look after it`)
  const wanted = numberOrNull(fields, 'partitions')
  const isOrderGivenUp = fields.breakKeyOrder !== undefined && flag(fields, 'breakKeyOrder')
  // Everything is judged before anything is changed.
  const { topicId, partitions } = topicOf(metadata.state, fields)
  const hasMore = wanted !== null && wanted !== partitions
  if (hasMore) morePartitions(context, metadata.state, fields, wanted, isOrderGivenUp)
  const factor = numberOrNull(fields, 'replicas')
  if (factor !== null) await refuseUnbegun(context, topicOf(metadata.state, fields), [...Array(partitions).keys()])
  if (factor !== null) otherFactor(context, metadata.state, fields, factor)
  if ('retentionMs' in fields || 'retentionBytes' in fields) {
    await metadata.propose((state) => newRetention(topicOf(state, fields), fields))
  }
  if (hasMore) await metadata.propose((state) => morePartitions(context, state, fields, wanted, isOrderGivenUp))
  if (factor !== null) await metadata.propose((state) => otherFactor(context, state, fields, factor))
  const { name, partitions: now } = metadata.state.topic(topicId) ?? topicOf(metadata.state, fields)
  return { topicId, name, partitions: now }
}

function morePartitions(
  { members }: PlacementContext,
  state: MetadataState,
  fields: Fields,
  wanted: number,
  isOrderGivenUp: boolean,
): MetadataCommand {
  const { topicId, partitions, replicas } = topicOf(state, fields)
  const more = wanted - partitions
  if (more <= 0) refuse(`the topic has ${partitions} partitions, and cannot have fewer`)
  if (wanted > MAX_PARTITIONS_PER_TOPIC) refuse(`partitions can be up to ${MAX_PARTITIONS_PER_TOPIC}`)
  if (state.partitionCount + more > MAX_PARTITIONS) refuse(`the cluster can have ${MAX_PARTITIONS} partitions in all`)
  if (!isOrderGivenUp) {
    refuse('with more partitions most keys go to another one, so that the order of their records breaks: say so')
  }
  const added = placeReplicas({
    nodes: placeableNodes(state.nodes(), members.ids),
    load: Load.of(state.topics()),
    firstPartition: partitions,
    partitions: more,
    factor: replicas[0]!.length,
    topicId,
  })
  return { kind: 'addPartitions', topicId, partitions: wanted, replicas: added }
}

function otherFactor(
  { members }: PlacementContext,
  state: MetadataState,
  fields: Fields,
  factor: number,
): MetadataCommand {
  if (factor < 1) refuse('a partition has one replica at least')
  const nodes = placeableNodes(state.nodes(), members.ids)
  const assignments = planFactor(topicOf(state, fields), factor, Load.of(state.topics()), nodes)
  return { kind: 'assignReplicas', assignments }
}

function newRetention(topic: TopicDefinition, fields: Fields): MetadataCommand {
  const { topicId } = topic
  const given = (name: 'retentionMs' | 'retentionBytes'): number | null => {
    if (!(name in fields)) return topic[name]
    const value = numberOrNull(fields, name)
    checkLimit(name, value)
    return value
  }
  return {
    kind: 'alterTopic',
    topicId,
    retentionMs: given('retentionMs'),
    retentionBytes: given('retentionBytes'),
  }
}

function topicOf(state: MetadataState, { name }: Fields): TopicDefinition {
  const topic = typeof name === 'string' ? state.topicByName(name) : undefined
  if (topic === undefined) throw new ProtocolError('UNKNOWN_TOPIC', `there is no topic ${String(name)}`)
  return topic
}
