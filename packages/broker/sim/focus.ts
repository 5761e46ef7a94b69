// Runs that dwell on one thing: a kind of bug that random runs meet once in hundreds of seeds is met in tens by runs in
// which the faults that could show it are frequent and the others are off. What is looked for stays a matter of chance.
import { drawGroupOn } from './group-plan.js'
import {
  type ConsumerPlan,
  type FaultPlan,
  type ProducerPlan,
  type SimulationOptions,
  withComingAndGoing,
  withGroup,
} from './options.js'
import { SeededRandom } from './random.js'

interface Focus {
  /** Brokers; null leaves it to the seed. */
  readonly brokers: number | null
  readonly apply: (options: SimulationOptions) => SimulationOptions
}

/** Every fault is off. */
export const NO_FAULTS: Partial<FaultPlan> = {
  killMs: null,
  powerCutMs: null,
  gracefulStopMs: null,
  connectionLossMs: null,
  silenceMs: null,
  slowDiskMs: null,
  diskErrorMs: null,
  fullDiskMs: null,
  stallMs: null,
  clockJumpMs: null,
  clientKillMs: null,
  topicChurnMs: null,
  partitionMs: null,
  clogMs: null,
  transferMs: null,
  moveMs: null,
  memberMs: null,
}

/** Small batches, many of them in flight, and time enough for every retry. */
const BUSY: Partial<ProducerPlan> = { acks: 'all', batchBytes: 256, inFlightBatches: 8, deliveryTimeoutMs: 120_000 }
const FOLLOWING: Partial<ConsumerPlan> = { from: 'earliest', untilEnd: false, consumption: 'plain', meanWorkMs: 0 }

function only(
  options: SimulationOptions,
  faults: Partial<FaultPlan>,
  { producer = {}, consumer = {} }: { producer?: Partial<ProducerPlan>; consumer?: Partial<ConsumerPlan> } = {},
): SimulationOptions {
  return {
    ...options,
    topics: options.topics.map(({ name, partitions }) => ({ name, partitions, durability: 'flushed' })),
    producers: options.producers.map((plan) => ({ ...plan, ...producer })),
    consumers: options.consumers.map((plan) => ({ ...plan, ...consumer })),
    faults: { ...options.faults, ...NO_FAULTS, ...faults },
    triesLiveness: false,
    losesMetadata: false,
    probesBounds: true,
    rots: false,
    group: null,
  }
}

const FOCUSES: Readonly<Record<string, Focus>> = {
  /** What is promised before it is durable. */
  power: {
    brokers: 1,
    apply: (options) => only(options, { powerCutMs: 150, longestDownMs: 30 }, { producer: BUSY, consumer: FOLLOWING }),
  },
  /** Retries that meet their originals on the way to a slow disk. */
  retries: {
    brokers: 1,
    apply: (options) => only(options, { connectionLossMs: 40, slowDiskMs: 150 }, { producer: BUSY }),
  },
  /** Restarts between an append and its acknowledgement, with checkpoints all the time. */
  restarts: {
    brokers: 1,
    apply: (options) => ({
      ...only(
        options,
        { killMs: 120, connectionLossMs: 60, longestDownMs: 20 },
        { producer: { ...BUSY, largestValueBytes: 2048 } },
      ),
      storage: { ...options.storage, checkpointBytes: 16 * 1024, slotBytes: [128 * 1024, 256 * 1024, 4 * 1024 * 1024] },
    }),
  },
  /** Sends that are given up while an attempt may be in the log. */
  deadlines: {
    brokers: 1,
    apply: (options) =>
      only(
        options,
        { connectionLossMs: 100, slowDiskMs: 100, killMs: 400, longestDownMs: 400 },
        { producer: { ...BUSY, deliveryTimeoutMs: 250 }, consumer: FOLLOWING },
      ),
  },
  /** Leaders that change while producers and consumers go on. */
  failover: {
    brokers: 3,
    apply: (options) =>
      only(
        options,
        { partitionMs: 1200, longestPartitionMs: 2500, killMs: 2500, transferMs: 800, longestDownMs: 500 },
        { producer: BUSY, consumer: FOLLOWING },
      ),
  },
  /** Leaders that wake up, or come back, and do not know that another leads. */
  deposed: {
    brokers: 3,
    apply: (options) =>
      only(options, { stallMs: 500, partitionMs: 3000, longestPartitionMs: 2500 }, { producer: BUSY }),
  },
  /** Groups that grow, shrink and move while their nodes crash and lose each other. */
  moves: {
    brokers: 5,
    apply: (options) => ({
      ...only(
        options,
        {
          moveMs: 250,
          killMs: 1500,
          partitionMs: 2000,
          longestPartitionMs: 2000,
          transferMs: 1500,
          longestDownMs: 600,
        },
        { producer: BUSY, consumer: FOLLOWING },
      ),
      workMs: Math.max(options.workMs, 6_000),
    }),
  },
  /** A consumer group whose members and coordinators are killed, cut off and replaced. */
  groups: {
    brokers: 3,
    apply: (options) => {
      const faults = { transferMs: 1500, partitionMs: 3000, longestPartitionMs: 2500, killMs: 4000, longestDownMs: 500 }
      const focused = only(options, faults, { producer: BUSY, consumer: FOLLOWING })
      const group = drawGroupOn(focused.topics[0]!.name, new SeededRandom(`group/${options.seed}`))
      return {
        ...withGroup(focused, group),
        workMs: Math.max(options.workMs, 6_000),
        producers: focused.producers.map((plan) => ({ ...plan, topic: group.topic })),
        consumers: focused.consumers.slice(0, 1),
        probesBounds: false,
      }
    },
  },
  /** Brokers that join, are drained, removed and replaced, under faults of every kind. */
  members: {
    brokers: 3,
    apply: (options) => withComingAndGoing(options, new SeededRandom(`members/${options.seed}`)),
  },
  /** A topic is made, used and deleted again and again under one name, while brokers crash and lose each other. */
  churn: {
    brokers: 3,
    apply: (options) => ({
      ...only(options, {
        topicChurnMs: 100,
        killMs: 1500,
        partitionMs: 2000,
        longestPartitionMs: 2000,
        connectionLossMs: 500,
        longestDownMs: 600,
      }),
      producers: options.producers.slice(0, 1).map((plan) => ({ ...plan, ...BUSY })),
      consumers: options.consumers.slice(0, 1),
    }),
  },
  /** The metadata group loses its majority, after faults of every kind. */
  metadata: {
    brokers: 5,
    apply: (options) => ({ ...options, workMs: options.workMs / 4, triesLiveness: false, losesMetadata: true }),
  },
  /** Rot, and nothing but rot. */
  rot: { brokers: 1, apply: (options) => ({ ...only(options, {}), workMs: 500, rots: true }) },
  /** Readers whose bytes wait long to be sent, while what they read goes: by retention, or with its topic. */
  readers: {
    brokers: 1,
    apply: (options) => {
      const focused = only(
        options,
        { connectionLossMs: 200, topicChurnMs: 200 },
        { producer: { acks: 'all', batchBytes: 16 * 1024, largestValueBytes: 20 * 1024 }, consumer: FOLLOWING },
      )
      return {
        ...focused,
        topics: focused.topics.map((topic) => ({ ...topic, retentionBytes: 64 * 1024 })),
        storage: {
          ...focused.storage,
          slotBytes: [128 * 1024, 256 * 1024, 4 * 1024 * 1024],
          gatherBytes: 8 * 1024,
          extentBytes: 64 * 1024,
          appendMemoryBytes: 2 * 1024 * 1024,
        },
        network: { ...options.network, minLatencyMs: 2, meanLatencyMs: 20 },
      }
    },
  },
}

export const FOCUS_NAMES: readonly string[] = Object.keys(FOCUSES)

/** @throws Error when there is no such focus. */
export function focusNamed(name: string): Focus {
  const focus = Object.hasOwn(FOCUSES, name) ? FOCUSES[name] : undefined
  if (focus === undefined) throw new Error(`there is no focus ${name}; there are ${FOCUS_NAMES.join(', ')}`)
  return focus
}
