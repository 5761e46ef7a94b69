// Topics of the brokers' own get three replicas as soon as there are three brokers: nobody else would think of it when a
// cluster grows. Whoever leads the metadata brings that about, in the way of any other move.
import { isReservedTopicName } from '@millrace/protocol'
import type { Clock, Logger, Timer } from '../environment.js'
import { DEFAULT_REPLICAS, INTERNAL_REPLICAS_MS } from '../limits.js'
import { isBug } from '../server/failures.js'
import { hasBegun } from './begun-groups.js'
import type { LeaderTable } from './leader-table.js'
import type { Assignment } from './metadata-command.js'
import type { MetadataLog } from './metadata-log.js'
import type { MetadataState } from './metadata-state.js'
import { Load, leaderFirst, planFactor } from './placement.js'

interface InternalReplicasOptions {
  readonly nodeId: number
  readonly metadata: MetadataLog
  readonly leaders: LeaderTable
  readonly peers: { isConnected(nodeId: number): boolean }
  readonly clock: Clock
  readonly log: Logger
  /** Something was thrown that is nobody's refusal: a bug. */
  readonly report: (error: unknown) => void
}

export class InternalReplicas {
  readonly #options: InternalReplicasOptions
  #timer: Timer | null = null
  #stopped = false

  constructor(options: InternalReplicasOptions) {
    this.#options = options
  }

  /** Something may have changed: who leads the metadata, or what is committed. */
  look(): void {
    if (this.#stopped || this.#timer !== null || !this.#isLacking()) return
    this.#timer = this.#options.clock.timer(INTERNAL_REPLICAS_MS, () => {
      this.#timer = null
      void this.#raise().then(() => this.look())
    })
  }

  stop(): void {
    this.#stopped = true
    this.#timer?.cancel()
  }

  /** Whether there is something that this node has to look after, now or once the others are there. */
  #isLacking(): boolean {
    const { metadata } = this.#options
    if (!metadata.leads) return false
    const { state } = metadata
    const active = state.nodes().filter((node) => node.state === 'active')
    return active.length >= DEFAULT_REPLICAS && lackingTopics(state).length > 0
  }

  /** Always resolves: what cannot be had now is tried again. */
  async #raise(): Promise<void> {
    const { metadata, log, report } = this.#options
    if (this.#stopped || !metadata.leads || this.#plan(metadata.state).length === 0) return
    try {
      const command = await metadata.propose((state) => ({ kind: 'assignReplicas', assignments: this.#plan(state) }))
      if (command.kind !== 'assignReplicas') return
      log.info(
        { partitions: command.assignments.length },
        'internal topics get more replicas: there are brokers for them',
      )
    } catch (error) {
      // Another node may lead the metadata now, and looks after it.
      if (isBug(error)) report(error)
    }
  }

  #plan(state: MetadataState): readonly Assignment[] {
    const { nodeId: self, leaders, peers } = this.#options
    const there = state
      .nodes()
      .filter(({ nodeId, state: its }) => its === 'active' && (nodeId === self || peers.isConnected(nodeId)))
    if (there.length < DEFAULT_REPLICAS) return []
    const load = Load.of(state.topics())
    const lacking = lackingTopics(state).flatMap((topic) =>
      planFactor(topic, DEFAULT_REPLICAS, load, there).filter(
        ({ partition }) => topic.replicas[partition]!.length < DEFAULT_REPLICAS,
      ),
    )
    return lacking
      .filter((assignment) => hasBegun(leaders, state, assignment))
      .map((assignment) => ({ ...assignment, replicas: spreadLeader(assignment.replicas, load) }))
  }
}

/** Whoever had all of it alone need not lead all of it. */
function spreadLeader(replicas: readonly number[], load: Load): readonly number[] {
  load.remove(replicas)
  const spread = leaderFirst(
    replicas.map((nodeId) => ({ nodeId })),
    load,
  )
  load.add(spread)
  return spread
}

const lackingTopics = (state: MetadataState) =>
  state
    .topics()
    .filter(({ name, replicas }) => isReservedTopicName(name) && replicas.some((has) => has.length < DEFAULT_REPLICAS))
