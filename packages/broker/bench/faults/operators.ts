// What operators do to a cluster meanwhile, each thing in turn: brokers join, are drained and removed, and are replaced when
// they are gone for good with their disk; partitions move about, some of them not to the end; a topic gets more partitions.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { SeededRandom } from '../../sim/random.js'
import type { ClusterNode, ProcessCluster } from '../support/process-cluster.js'
import { mustBeMillraceError } from './fault-apps.js'
import { FAULT_TOPICS, GROWING_TOPIC } from './fault-workload.js'
import type { Patience } from './patience.js'
import type { Turns } from './turns.js'

export type OperationKind = 'join' | 'remove' | 'replace' | 'move' | 'cancelMove' | 'addPartitions'

/** Replicas of every partition: with as many brokers none can be drained. */
export const REPLICAS = 3
/** As many brokers as there may be, or one more than the cluster begins with. */
const MOST_BROKERS = 5
const MEAN_MEMBERSHIP_GAP_MS = 3_000
const MEAN_MOVE_GAP_MS = 1_500
const MEAN_CANCEL_AFTER_MS = 600
const CANCEL_CHANCE = 0.3
const MEAN_PARTITIONS_GAP_MS = 10_000
const MOST_PARTITIONS = 12
const DRAIN_AGAIN_MS = 3_000
/** Time for a broker to hear that it was removed, and to write that down. */
const HEARS_OF_IT_MS = 500
/** What a start may take until it is refused: by what is on its disk, or else by all others. */
const REFUSED_START_MS = 8_000

export interface OperatorsOptions {
  readonly cluster: ProcessCluster
  readonly mill: Mill
  readonly random: SeededRandom
  readonly patience: Patience
  /** Of whatever makes partitions, and of the loss of a disk. */
  readonly beginnings: Turns
  readonly onOperation: (words: string) => void
}

export class Operators {
  readonly counts: Partial<Record<OperationKind, number>> = {}
  /** Nodes that were taken out. */
  readonly removed: number[] = []
  /** Of those, brokers that did not even start again. */
  refusedAtStart = 0
  private work: Promise<unknown> = Promise.resolve()

  constructor(private readonly options: OperatorsOptions) {}

  begin(): void {
    const { random } = this.options
    this.work = Promise.all([
      this.changeMembers(random.split('members')),
      this.movePartitions(random.split('moves')),
      this.addPartitions(random.split('partitions')),
    ])
    // Whoever awaits the end is told of it; until then it is not unhandled.
    this.work.catch(() => undefined)
  }

  /** Resolves when what was begun has come to its end, after peace. @throws Error when it does not. */
  async end(): Promise<void> {
    await this.work
  }

  private count(kind: OperationKind, words = ''): void {
    this.counts[kind] = (this.counts[kind] ?? 0) + 1
    this.options.onOperation(`${kind} ${words}`.trim())
  }

  // -------------------------------------------------------------- brokers

  private async changeMembers(random: SeededRandom): Promise<void> {
    const { cluster, patience } = this.options
    const least = Math.max(REPLICAS, cluster.nodes.length - 1)
    const most = Math.max(MOST_BROKERS, cluster.nodes.length + 1)
    for (;;) {
      await patience.pause(random.exponential(MEAN_MEMBERSHIP_GAP_MS))
      if (patience.isPeace) return
      const brokers = cluster.nodes.length
      const kinds = [
        ...(brokers < most ? ['join', 'join'] : []),
        ...(brokers > least ? ['remove', 'remove'] : []),
        'replace',
      ]
      const kind = random.pick(kinds)
      if (kind === 'join') await this.join()
      else if (kind === 'remove') await this.drainAndRemove(random.pick(cluster.nodes))
      else await this.replace(random.pick(cluster.nodes))
    }
  }

  private async join(): Promise<void> {
    this.count('join')
    const { nodeId } = await this.options.cluster.join()
    this.options.onOperation(`node ${nodeId} has joined`)
  }

  private async drainAndRemove(node: ClusterNode): Promise<void> {
    const { nodeId } = node
    this.count('remove', `${nodeId}`)
    node.isLeaving = true
    await this.takeOut(nodeId)
    await sleep(HEARS_OF_IT_MS)
    await this.options.cluster.dismiss(node)
    await this.options.patience.until(`a refusal of node ${nodeId}, which was removed,`, async () => {
      const { end, lines } = await node.tryStart(REFUSED_START_MS)
      const isRefusedAtStart =
        end?.isOrderly === false && lines.some((line) => line.includes('was removed from the cluster'))
      if (isRefusedAtStart) this.refusedAtStart++
      // One that has not heard of it starts, and is refused by whoever it dials.
      const isRefused = isRefusedAtStart || lines.some((line) => line.includes('NODE_REMOVED'))
      return isRefused ? {} : `it starts, and says ${lines.at(-1) ?? 'nothing'}`
    })
    node.wipe()
  }

  /**
   * The process ends and the disk is lost; another broker takes its place. No partition begins meanwhile: a replica that has
   * voted and has no batch yet takes itself, after a restart, for one that has lost its log, and its group then has no leader
   * for as long as any other is away; here that is for ever.
   */
  private async replace(node: ClusterNode): Promise<void> {
    const { cluster, patience, mill, beginnings, onOperation } = this.options
    const { nodeId } = node
    await beginnings.take(async () => {
      await patience.until('a leader of every partition', async () => {
        const { leaderless } = await admin(mill).clusterStatus()
        return leaderless === 0 ? {} : `${leaderless} partitions have none`
      })
      this.count('replace', `${nodeId}`)
      await cluster.dismiss(node)
      node.wipe()
      const { nodeId: heir } = await cluster.join()
      onOperation(`node ${heir} takes the place of node ${nodeId}`)
      await this.takeOut(nodeId)
    })
  }

  private async takeOut(nodeId: number): Promise<void> {
    const { patience, mill, onOperation } = this.options
    const operator = admin(mill)
    let drainedAtMs = Number.NEGATIVE_INFINITY
    await patience.until(`node ${nodeId} drained and removed`, async () => {
      const member = (await operator.members()).find((one) => one.nodeId === nodeId)
      if (member === undefined) return `node ${nodeId} is unknown`
      if (member.state === 'removed') return member
      // A move that is cancelled may bring a partition back to it.
      if (member.replicas > 0 || member.state === 'active') {
        if (performance.now() < drainedAtMs + DRAIN_AGAIN_MS) return `${member.replicas} replicas are to stay`
        await operator.drainBroker(nodeId)
        drainedAtMs = performance.now()
        return 'it was told to drain'
      }
      if (member.moving > 0) return `${member.moving} partitions are still on their way`
      await operator.removeBroker(nodeId)
      return 'it was told to go'
    })
    this.removed.push(nodeId)
    onOperation(`node ${nodeId} is removed`)
  }

  // -------------------------------------------------------------- partitions

  private async movePartitions(random: SeededRandom): Promise<void> {
    const { patience, cluster, mill } = this.options
    const operator = admin(mill)
    for (;;) {
      await patience.pause(random.exponential(MEAN_MOVE_GAP_MS))
      if (patience.isPeace) return
      const { name, partitions } = random.pick(FAULT_TOPICS)
      const partition = random.integer(0, partitions - 1)
      const to = drawSome(
        cluster.nodes.map(({ nodeId }) => nodeId),
        random,
      )
      // One that was lost may have no successor yet.
      if (to.length < REPLICAS) continue
      const isToBeCancelled = random.chance(CANCEL_CHANCE)
      try {
        await operator.movePartition(name, partition, to)
        this.count('move', `${name}/${partition} to ${to.join(',')}`)
        if (!isToBeCancelled) continue
        await patience.pause(random.exponential(MEAN_CANCEL_AFTER_MS))
        await operator.cancelMove(name, partition)
        this.count('cancelMove', `${name}/${partition}`)
      } catch (error) {
        // A broker that is drained, one that is gone, metadata that nobody leads: such are refused.
        mustBeMillraceError(error)
      }
    }
  }

  private async addPartitions(random: SeededRandom): Promise<void> {
    const { patience, mill, beginnings } = this.options
    const operator = admin(mill)
    for (;;) {
      await patience.pause(random.exponential(MEAN_PARTITIONS_GAP_MS))
      if (patience.isPeace) return
      try {
        const topics = await operator.listTopics()
        const partitions = topics.find(({ name }) => name === GROWING_TOPIC)!.partitions + random.integer(1, 2)
        if (partitions > MOST_PARTITIONS) return
        await beginnings.take(() => operator.alterTopic(GROWING_TOPIC, { partitions, breakKeyOrder: true }))
        this.count('addPartitions', `${GROWING_TOPIC} has ${partitions}`)
      } catch (error) {
        mustBeMillraceError(error)
      }
    }
  }
}

/** As many as there are replicas, in any order. */
function drawSome(ids: readonly number[], random: SeededRandom): number[] {
  const left = [...ids]
  const drawn: number[] = []
  while (drawn.length < REPLICAS && left.length > 0) drawn.push(...left.splice(random.integer(0, left.length - 1), 1))
  return drawn
}
