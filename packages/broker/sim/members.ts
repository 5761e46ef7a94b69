// Brokers that come and go while everything else goes on: an operator who lets new ones join, drains and removes others, and
// replaces those whose disk is lost, all with the product's own administration.
import { admin } from '@millrace/client/admin'
import { isJoint } from '#src/raft/configuration.js'
import { mustBeMillraceError } from './app-context.js'
import type { BrokerNode } from './broker-node.js'
import { leaderOf } from './partition-moves.js'
import { shuffled } from './partitions.js'
import type { SeededRandom } from './random.js'
import type { RunContext } from './run-context.js'
import type { SimulatedClient } from './simulated-client.js'

/** There are never more. */
const MOST_BROKERS = 6
/** What a partition has when there are brokers enough. */
const MOST_REPLICAS = 3
const RETRY_MS = 50
/** How long the operator waits for a moment in which a disk may be lost. */
const PATIENCE_MS = 1_500
/** A broker that was removed and does not know it. */
const LINGER_MS = 2_000

const STEPS = ['grow', 'grow', 'shrink', 'replace', 'spread'] as const

/** An operation that is asked for until it is done, or refused: then null. */
type Outcome<T> = { readonly answer: T } | null

export class MemberOperator {
  private readonly client: SimulatedClient
  private readonly random: SeededRandom

  constructor(private readonly run: RunContext) {
    this.client = run.population.newClient()
    this.random = run.random.split('members')
  }

  /** Until there is peace; what was begun then is brought to its end. */
  async work(meanGapMs: number): Promise<void> {
    const { run, random } = this
    while (!run.isPeaceful) {
      await run.scheduler.sleep(random.exponential(meanGapMs))
      if (run.isPeaceful) return
      await this[random.pick(STEPS)]()
    }
  }

  private get nodes(): readonly BrokerNode[] {
    return this.run.cluster.nodes
  }

  /** A broker with an empty disk joins, and now and then is given replicas at once. */
  async grow(): Promise<BrokerNode | null> {
    const { run, random } = this
    if (this.nodes.length >= MOST_BROKERS) return null
    const node = run.cluster.addNode()
    node.start()
    await run.until(`broker ${node.number} has joined`, () => node.nodeId !== 0 && node.state === 'running')
    run.coverage.count('broker joined')
    run.log(`broker ${node.number} is node ${node.nodeId}`, {})
    if (random.chance(0.7)) await this.spread()
    return node
  }

  /** Partitions get as many replicas as there are brokers for, or others. */
  async spread(): Promise<void> {
    const { run, random } = this
    const ids = this.nodes.map(({ nodeId }) => nodeId).filter((nodeId) => nodeId !== 0)
    const { name, partitions } = random.pick(run.options.topics)
    const replicas = Math.min(MOST_REPLICAS, ids.length)
    const raised = await this.ask(() => admin(this.client.mill).alterTopic(name, { replicas }))
    if (raised !== null) run.coverage.count('topic given other replicas')
    if (random.chance(0.5)) return
    const to = shuffled(ids, random).slice(0, replicas)
    const partition = random.integer(0, partitions - 1)
    const moved = await this.ask(() => admin(this.client.mill).movePartition(name, partition, to))
    if (moved !== null) run.coverage.count('partition given other replicas')
  }

  /** A broker is drained, and taken out when it has nothing left; now and then it is kept after all. */
  async shrink(): Promise<void> {
    const { run, random } = this
    const candidates = this.nodes.filter(({ nodeId }) => nodeId !== 0)
    if (candidates.length < 2) return
    const node = random.pick(candidates)
    if ((await this.drain(node)) === null) return
    if (random.chance(0.2)) {
      await run.scheduler.sleep(random.logBetween(1, 1000))
      if ((await this.ask(() => admin(this.client.mill).drainBroker(node.nodeId, { undo: true }))) === null) return
      run.coverage.count('draining undone')
      return
    }
    await this.remove(node, false)
    run.coverage.count('broker drained and removed')
    await this.linger(node)
    run.cluster.removeNode(node)
  }

  /** It may run on, or come again, and must not be let in. */
  private async linger(node: BrokerNode): Promise<void> {
    const { run, random } = this
    if (random.chance(0.5)) return
    if (random.chance(0.5)) node.kill()
    node.start()
    run.coverage.count('removed broker came again')
    await run.scheduler.sleep(random.between(0, LINGER_MS))
  }

  /** A disk is lost for good; another broker takes the place of its node. */
  async replace(): Promise<void> {
    const { run, random } = this
    const node = await this.replaceable()
    if (node === null) return
    run.recorder.diskLosses.push({ atMs: run.scheduler.nowMs, node: node.nodeId })
    run.log(`the disk of broker ${node.number} is lost`, {})
    run.cluster.removeNode(node)
    run.coverage.count('disk lost for good')
    // There may be too few others to take what it had.
    if (this.nodes.length <= MOST_REPLICAS || random.chance(0.5)) await this.grow()
    while ((await this.drain(node)) === null) {
      if ((await this.grow()) === null) return run.fail('stuck', `nobody can take what node ${node.nodeId} had`)
    }
    await this.remove(node, random.chance(0.5))
    run.coverage.count('dead broker replaced')
  }

  private async drain({ nodeId }: BrokerNode): Promise<Outcome<{ moves: number }>> {
    const drained = await this.ask(() => admin(this.client.mill).drainBroker(nodeId))
    if (drained !== null) this.run.log(`node ${nodeId} is drained: ${drained.answer.moves} moves`, {})
    return drained
  }

  /** As soon as the cluster lets it go. */
  private async remove({ nodeId }: BrokerNode, force: boolean): Promise<void> {
    const { run } = this
    let isRemoved = false
    run.expectRemoval(nodeId, force)
    const removing = async (): Promise<void> => {
      let removed: Outcome<{ decides: boolean }> = null
      while (removed === null) {
        removed = await this.ask(() => admin(this.client.mill).removeBroker(nodeId, { force }))
        if (removed === null) await run.scheduler.sleep(RETRY_MS)
      }
      // Null where the answer was lost, and is known from the refusal of a second removal.
      if (removed.answer?.decides === false) this.mustNotDecide(nodeId)
      isRemoved = true
      run.log(`node ${nodeId} is removed`, {})
    }
    void removing().catch((error: unknown) => run.fail('exception', String(error)))
    await run.until(`node ${nodeId} is removed`, () => isRemoved)
  }

  /** Whoever leads the metadata in the newest term does without the node. */
  private mustNotDecide(nodeId: number): void {
    const leaders = this.nodes.flatMap(({ broker }) => (broker?.metadata.leads === true ? broker.metadata : []))
    const leader = leaders.sort((a, b) => b.term - a.term)[0]
    const { voters = [], outgoing = [] } = leader?.configuration ?? {}
    if (!voters.includes(nodeId) && !outgoing.includes(nodeId)) return
    this.run.fail(
      'removed-early',
      `node ${nodeId} is removed, and the metadata group counts on it: ${voters.join(', ')}`,
    )
  }

  /** One that every group, as it is now, can lose without losing anything or its majority; null where none is found soon. */
  private async replaceable(): Promise<BrokerNode | null> {
    const { run, random } = this
    const deadlineMs = run.scheduler.nowMs + PATIENCE_MS
    while (!run.isPeaceful && run.scheduler.nowMs < deadlineMs) {
      if (this.isWhole()) return random.pick(this.nodes)
      await run.scheduler.sleep(RETRY_MS)
    }
    return null
  }

  /** Whether each group has three voters or more, all of them up, and no change under way. */
  private isWhole(): boolean {
    const { nodes } = this
    if (!nodes.every(({ state }) => state === 'running')) return false
    const state = nodes.find(({ broker }) => broker?.metadata.leads === true)?.broker?.metadata.state
    if (state === undefined) return false
    const keys = state.topics().flatMap(({ topicId, partitions }) => {
      return Array.from({ length: partitions }, (_, partition) => ({ topicId, partition }))
    })
    return [{ topicId: 0, partition: 0 }, ...keys].every(({ topicId, partition }) => {
      const core = leaderOf(nodes, topicId, partition)?.core
      if (core === undefined || isJoint(core.configuration) || !core.isConfigurationCommitted) return false
      const { voters } = core.configuration
      // Whoever was removed by force may be counted on for a while.
      return voters.length >= MOST_REPLICAS && voters.every((voter) => nodes.some(({ nodeId }) => nodeId === voter))
    })
  }

  /** Null when it is refused for what it asks. Every operation here may be done twice. */
  private async ask<T>(work: () => Promise<T>): Promise<Outcome<T>> {
    for (;;) {
      try {
        return { answer: await work() }
      } catch (error) {
        mustBeMillraceError(error)
        if (error.code === 'ERR_MILLRACE_NODE_REMOVED') return { answer: undefined as T }
        if (error.code === 'ERR_MILLRACE_INVALID_CONFIG') {
          this.run.log(`refused: ${error.message}`, {})
          return null
        }
      }
      await this.run.scheduler.sleep(RETRY_MS)
    }
  }
}
