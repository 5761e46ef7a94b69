// Which partitions are not where the metadata wants them, and which nodes may still be needed: asked of every broker, since a
// group is known to its leader, and to its replicas where it has none.
import type { Clock } from '../environment.js'
import { ELECTIONS_POLL_MS, ELECTIONS_WAIT_MS, PARTITIONS_PER_QUESTION } from '../limits.js'
import type { NodeId } from '../raft/raft-types.js'
import { asMove, type Leaderless, mayHold, type PartitionLists, type Testimony } from './leaderless.js'
import type { TopicDefinition } from './metadata-command.js'
import type { PartitionMove } from './partition-moves.js'

/** What a broker tells of the partitions that it leads. */
export interface LedPartitions {
  readonly led: PartitionLists
  readonly moves: readonly PartitionMove[]
  /** Whether it has moves to tell of behind these. */
  readonly hasMore: boolean
}

export type Answers<T> = readonly (readonly [nodeId: NodeId, answer: T])[]

/** Every broker, this one too; those that do not answer in time are left out. */
export interface Surveyed {
  /** @param skip moves that were told already. */
  ledPartitions(skip: number): Promise<Answers<LedPartitions>>
  testimonies(partitions: PartitionLists): Promise<Answers<readonly Testimony[]>>
}

/** How many groups have a replica on a node, and how many more may have one that nobody leads. */
export interface Held {
  readonly held: number
  readonly leaderless: number
}

export class PlacementSurvey {
  private constructor(
    private readonly led: readonly PartitionMove[],
    private readonly leaderless: readonly Leaderless[],
  ) {}

  /** @param topics those of the metadata that everybody who is asked has heard of. */
  static async take(topics: () => readonly TopicDefinition[], surveyed: Surveyed): Promise<PlacementSurvey> {
    const moves: PartitionMove[] = []
    const led = new Map<number, Set<number>>()
    for (let skip = 0, hasMore = true; hasMore; ) {
      const answers = await surveyed.ledPartitions(skip)
      for (const [, answer] of answers) {
        moves.push(...answer.moves)
        for (const [topicId, partitions] of answer.led) {
          led.set(topicId, new Set([...(led.get(topicId) ?? []), ...partitions]))
        }
      }
      skip += Math.max(1, ...answers.map(([, answer]) => answer.moves.length))
      hasMore = answers.some(([, answer]) => answer.hasMore)
    }
    const missing = topics().flatMap(({ topicId, replicas }) =>
      replicas.flatMap((target, partition) =>
        led.get(topicId)?.has(partition) === true ? [] : [{ topicId, partition, target }],
      ),
    )
    const leaderless: Leaderless[] = []
    for (let at = 0; at < missing.length; at += PARTITIONS_PER_QUESTION) {
      leaderless.push(...(await witnessed(missing.slice(at, at + PARTITIONS_PER_QUESTION), surveyed)))
    }
    return new PlacementSurvey(moves, leaderless)
  }

  /** Partitions on their way, as their leaders know, and all that have no leader. */
  get moves(): readonly PartitionMove[] {
    return [...this.led, ...this.leaderless.map(asMove)]
  }

  heldBy(nodeId: NodeId): Held {
    const isMember = ({ voters, outgoing, learners }: PartitionMove): boolean =>
      [...voters, ...outgoing, ...learners].includes(nodeId)
    return {
      held: this.led.filter(isMember).length,
      leaderless: this.leaderless.filter((partition) => mayHold(partition, nodeId)).length,
    }
  }

  /** Partitions on their way to the node or away from it. */
  movingAt(nodeId: NodeId): number {
    const isAt = ({ voters, outgoing, learners, target }: PartitionMove): boolean =>
      [...voters, ...outgoing, ...learners, ...target].includes(nodeId)
    return this.led.filter(isAt).length
  }

  /** Partitions without a leader that are to leave the node, and may be on it still. */
  stuckAt(nodeId: NodeId): number {
    return this.leaderless.filter((partition) => !partition.target.includes(nodeId) && mayHold(partition, nodeId))
      .length
  }
}

/**
 * What the node holds. That nobody leads a partition may be an election under way, or a broker that is slow to answer: it is
 * asked again for a while, at most until `endMs`.
 */
export async function heldOnceLed(asked: {
  readonly nodeId: NodeId
  readonly survey: () => Promise<PlacementSurvey>
  readonly clock: Clock
  readonly endMs: number
}): Promise<Held> {
  const { nodeId, survey, clock } = asked
  const endMs = Math.min(asked.endMs, clock.monotonicMs() + ELECTIONS_WAIT_MS)
  for (;;) {
    const found = (await survey()).heldBy(nodeId)
    if (found.leaderless === 0 || clock.monotonicMs() >= endMs) return found
    await new Promise<void>((resolve) => clock.timer(ELECTIONS_POLL_MS, resolve))
  }
}

async function witnessed(
  missing: readonly Omit<Leaderless, 'testimonies'>[],
  surveyed: Surveyed,
): Promise<readonly Leaderless[]> {
  const lists = new Map<number, number[]>()
  for (const { topicId, partition } of missing) lists.set(topicId, [...(lists.get(topicId) ?? []), partition])
  const found = missing.map((partition) => ({ ...partition, testimonies: new Map<NodeId, Testimony>() }))
  const places = new Map(found.map((one) => [`${one.topicId}/${one.partition}`, one]))
  for (const [nodeId, testimonies] of await surveyed.testimonies([...lists])) {
    for (const testimony of testimonies) {
      places.get(`${testimony.topicId}/${testimony.partition}`)?.testimonies.set(nodeId, testimony)
    }
  }
  return found
}
