// A consumer group that rides along in a run: who its members are, how they work, and what befalls them.
import type { SeededRandom } from './random.js'

/** What a group's topic is chosen by. */
interface TopicOfGroup {
  readonly name: string
  readonly durability: 'flushed' | 'buffered'
  readonly retentionBytes?: number
}

/** Mean gaps in virtual milliseconds; null is never. */
export interface GroupTroubles {
  /** A member's process is killed; another takes its place. */
  readonly killMs: number | null
  /** A member is cut off from some or all brokers, now and then for longer than its lease. */
  readonly cutMs: number | null
  /** A member closes its consumer and comes back. */
  readonly restMs: number | null
  /** One member more, or one less. */
  readonly resizeMs: number | null
  /** A member with a name is replaced by another process while it is cut off. */
  readonly replaceMs: number | null
  /** The coordinator is killed, or asked to hand over, as soon as a commit is on its way. */
  readonly coordinatorMs: number | null
}

export interface GroupPlan {
  readonly topic: string
  /** Of the members that the group begins with; null for one without a name. */
  readonly memberNames: readonly (string | null)[]
  readonly processing: 'byKey' | 'byPartition'
  readonly concurrency: number
  readonly leaseMs: number
  readonly commitIntervalMs: number
  readonly meanWorkMs: number
  /** Of work to outlive any lease. */
  readonly longWorkRate: number
  readonly troubles: GroupTroubles
}

/** Of the runs of clusters with a topic that keeps everything. */
const GROUP_RATE = 0.35

/** Null: no group rides along. */
export function drawGroup(random: SeededRandom, topics: readonly TopicOfGroup[]): GroupPlan | null {
  const [topic] = topics.filter(({ durability, retentionBytes }) => {
    // What was lost or has gone was given to nobody.
    return durability === 'flushed' && retentionBytes === undefined
  })
  return topic === undefined || !random.chance(GROUP_RATE) ? null : drawGroupOn(topic.name, random)
}

/** Each trouble is on in half of the groups: what is off lets what is on come through. */
export function drawGroupOn(topic: string, random: SeededRandom): GroupPlan {
  const gap = (from: number, to: number): number | null => (random.chance(0.5) ? random.logBetween(from, to) : null)
  const members = random.integer(2, 4)
  return {
    topic,
    memberNames: Array.from({ length: members }, (_, i) => (random.chance(0.4) ? `member-${i}` : null)),
    processing: random.pick(['byKey', 'byKey', 'byPartition']),
    concurrency: random.pick([1, 4, 16]),
    leaseMs: random.integer(1_000, 2_000),
    commitIntervalMs: random.pick([20, 200, 1_000]),
    meanWorkMs: random.pick([0.2, 3, 15]),
    longWorkRate: random.pick([0, 0.004, 0.01]),
    troubles: {
      killMs: gap(800, 6_000),
      cutMs: gap(800, 6_000),
      restMs: gap(800, 6_000),
      resizeMs: gap(800, 6_000),
      replaceMs: gap(1_500, 6_000),
      coordinatorMs: gap(800, 6_000),
    },
  }
}
