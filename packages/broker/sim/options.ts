// A seed becomes a run: every size, rate and fault is drawn here, so that a run can be described and repeated.
import type { TearOdds } from './file-image.js'
import { drawGroup, type GroupPlan } from './group-plan.js'
import type { NetworkConditions } from './pipe.js'
import { SeededRandom } from './random.js'

export type Durability = 'flushed' | 'buffered'
export type Acks = 'all' | 'leader' | 'none'
export type Codec = 'none' | 'gzip'

export interface TopicOptions {
  readonly name: string
  readonly partitions: number
  readonly durability: Durability
  /** Of each partition so many bytes are kept; everything when left out. */
  readonly retentionBytes?: number
}

export interface ProducerPlan {
  readonly topic: string
  /** What the history calls the topic; its name when left out. */
  readonly recordedAs?: string
  readonly acks: Acks
  readonly codec: Codec
  readonly batchBytes: number
  readonly inFlightBatches: number
  readonly deliveryTimeoutMs: number
  readonly keys: number
  readonly records: number
  readonly burst: number
  readonly meanGapMs: number
  readonly largestValueBytes: number
  /** Of a record to have no key, or no value. */
  readonly nullRate: number
  /** Whether bursts go out as one `sendBatch`. */
  readonly batched: boolean
}

/** How a consumer finishes records: the shipped operators, plain `next`, or `for await`. */
export type Consumption = 'processEach' | 'settle' | 'plain' | 'iterate'

export interface ConsumerPlan {
  readonly topic: string
  /** What the history calls the topic; its name when left out. */
  readonly recordedAs?: string
  /** No session follows the first. */
  readonly isOnce?: boolean
  readonly from: 'earliest' | 'latest' | 'offset' | 'timestamp'
  readonly untilEnd: boolean
  readonly consumption: Consumption
  readonly concurrency: number
  readonly inFlightBytes: number
  readonly meanWorkMs: number
  /** Sessions follow each other; each lasts about so long before it is unsubscribed. */
  readonly meanSessionMs: number
}

/** Mean gaps between faults in virtual milliseconds; null is never. */
export interface FaultPlan {
  readonly killMs: number | null
  readonly powerCutMs: number | null
  readonly gracefulStopMs: number | null
  readonly connectionLossMs: number | null
  readonly silenceMs: number | null
  readonly slowDiskMs: number | null
  readonly diskErrorMs: number | null
  readonly fullDiskMs: number | null
  readonly stallMs: number | null
  readonly clockJumpMs: number | null
  readonly clientKillMs: number | null
  readonly topicChurnMs: number | null
  /** The network between brokers, and now and then that of clients, falls apart. */
  readonly partitionMs: number | null
  readonly longestPartitionMs: number
  /** A path between two hosts becomes slow. */
  readonly clogMs: number | null
  /** A leader is asked to let another replica lead. */
  readonly transferMs: number | null
  /** A partition is to have other replicas. */
  readonly moveMs: number | null
  /** Brokers join, are drained and removed, and lose their disks for good. */
  readonly memberMs: number | null
  /** Of a kill or a power cut to strike every broker at once. */
  readonly allAtOnceRate: number
  readonly longestDownMs: number
  readonly tear: TearOdds
}

/** Sizes of storage that reach its rare states within a short run. */
export interface StoragePlan {
  readonly slotBytes: readonly number[]
  /** No batch of these runs is larger. */
  readonly maxGroupBytes: number
  readonly reserveSlots: number
  readonly checkpointBytes: number
  readonly writesInFlight: number
  readonly gatherBytes: number
  readonly quickRollMs: number
  /** Memory that appends are gathered in; as usual when left out. */
  readonly extentBytes?: number
  readonly appendMemoryBytes?: number
}

/** How eagerly rot is looked for, and whether there is some. */
export interface ScrubPlan {
  readonly scrubBytesPerSecond: number
  readonly scrubRestMs: number
}

export interface ClockPlan {
  /** How fast the monotonic clock runs. */
  readonly clockRate: number
  /** How far the wall clock is off at the beginning. */
  readonly wallOffsetMs: number
}

export interface SimulationOptions {
  readonly seed: number
  readonly brokers: number
  /** Of each broker. */
  readonly clocks: readonly ClockPlan[]
  /** How long faults and workload go on, in virtual time. */
  readonly workMs: number
  readonly brokerMemoryBytes: number
  readonly network: NetworkConditions
  readonly topics: readonly TopicOptions[]
  readonly producers: readonly ProducerPlan[]
  readonly consumers: readonly ConsumerPlan[]
  readonly faults: FaultPlan
  readonly storage: StoragePlan & ScrubPlan
  /** A majority is made whole and has to make progress while the rest stays broken, before everything heals. */
  readonly triesLiveness: boolean
  /** The metadata group loses its majority for a while, and produce and consume have to go on. */
  readonly losesMetadata: boolean
  /** Somebody asks all brokers again and again where logs begin and end. */
  readonly probesBounds: boolean
  /** When everything else is known, a bit of something flushed turns over. */
  readonly rots: boolean
  /** A consumer group with clients of its own; null where there is none. */
  readonly group: GroupPlan | null
}

const MOST_BROKERS = 5
/** Of runs with so many. */
const METADATA_LOSS_RATE = 0.3
/** Of runs in which brokers come and go. */
const MEMBERS_RATE = 0.03
const KIB = 1024
const MIB = 1024 * KIB

/** @param size how many brokers, instead of what the seed draws. */
export function optionsOf(seed: number, size: number | null = null): SimulationOptions {
  const random = new SeededRandom(`simulation/${seed}`)
  const brokers = size ?? random.split('size').pick([1, 1, 1, 1, 3, 3, 3, 3, 3, 5])
  const isCluster = brokers > 1
  const topics = drawRetention(random.split('retention'), drawTopics(random.split('topics')))
  const producers = random.split('producers')
  const consumers = random.split('consumers')
  const faults = isCluster ? drawClusterFaults(random.split('faults'), brokers) : drawFaults(random.split('faults'))
  const workMs = isCluster ? random.between(2000, 8000) : random.between(800, 4000)
  const losesMetadata = brokers === MOST_BROKERS && random.split('metadata').chance(METADATA_LOSS_RATE)
  const options: SimulationOptions = {
    seed,
    brokers,
    clocks: drawClocks(random.split('clocks'), brokers),
    workMs,
    brokerMemoryBytes: random.pick([192, 256, 512]) * MIB,
    network: drawNetwork(random.split('network')),
    topics,
    producers: Array.from({ length: producers.integer(1, 4) }, () => drawProducer(producers, topics, workMs)),
    consumers: Array.from({ length: consumers.integer(1, 3) }, () => drawConsumer(consumers, topics, workMs)),
    faults,
    storage: { ...drawStorage(random.split('storage')), ...drawScrub(random.split('scrub')) },
    // A majority of the brokers need not be one of a group that has moved.
    triesLiveness: isCluster && !losesMetadata && faults.moveMs === null && random.split('liveness').chance(0.4),
    losesMetadata,
    probesBounds: random.split('probe').chance(isCluster ? 0.6 : 0.3),
    rots: random.split('rot').chance(0.4),
    group: null,
  }
  const members = random.split('members')
  if (size === null && members.chance(MEMBERS_RATE)) return withComingAndGoing(options, members)
  return isCluster ? withGroup(options, drawGroup(random.split('group'), topics)) : options
}

export function withGroup(options: SimulationOptions, group: GroupPlan | null): SimulationOptions {
  if (group === null) return options
  // Leases are promised by clocks that run alike.
  return { ...options, clocks: options.clocks.map((clock) => ({ ...clock, clockRate: 1 })), group }
}

function drawTopics(random: SeededRandom): TopicOptions[] {
  return Array.from({ length: random.integer(1, 3) }, (_, i) => ({
    name: `topic-${i}`,
    partitions: random.integer(1, 4),
    durability: random.chance(0.65) ? 'flushed' : 'buffered',
  }))
}

/** A third of the topics is small: what is kept is less than one slot, or a few. */
function drawRetention(random: SeededRandom, topics: readonly TopicOptions[]): TopicOptions[] {
  return topics.map((topic) =>
    random.chance(0.35) ? { ...topic, retentionBytes: random.pick([1, 64 * KIB, 512 * KIB]) } : topic,
  )
}

function drawNetwork(random: SeededRandom): NetworkConditions {
  return {
    minLatencyMs: random.pick([0, 0.05, 1]),
    meanLatencyMs: random.logBetween(0.05, 5),
    shredRate: random.pick([0, 0.1, 0.5]),
    ...drawDatagrams(random.split('datagrams')),
  }
}

/** From a generator of their own: what came before datagrams stays the same for each seed. */
function drawDatagrams(random: SeededRandom): Pick<NetworkConditions, 'datagramLossRate' | 'datagramDuplicateRate'> {
  return { datagramLossRate: random.pick([0, 0.01, 0.1]), datagramDuplicateRate: random.pick([0, 0.01]) }
}

function drawProducer(random: SeededRandom, topics: readonly TopicOptions[], workMs: number): ProducerPlan {
  const records = Math.floor(random.logBetween(20, 400))
  const burst = Math.floor(random.logBetween(1, 60))
  return {
    topic: random.pick(topics).name,
    acks: random.pick(['all', 'all', 'all', 'leader', 'none']),
    codec: random.pick(['none', 'none', 'gzip']),
    batchBytes: random.pick([256, 2 * KIB, 16 * KIB, 256 * KIB]),
    inFlightBatches: random.integer(1, 8),
    deliveryTimeoutMs: random.chance(0.35) ? Math.round(random.logBetween(200, 3000)) : 120_000,
    keys: random.pick([1, 3, 20, 200]),
    records,
    burst,
    meanGapMs: (workMs * burst) / records,
    largestValueBytes: random.pick([20, 200, 2 * KIB, 20 * KIB]),
    nullRate: random.pick([0, 0.1]),
    batched: random.chance(0.2),
  }
}

function drawConsumer(random: SeededRandom, topics: readonly TopicOptions[], workMs: number): ConsumerPlan {
  return {
    topic: random.pick(topics).name,
    from: random.chance(0.75) ? 'earliest' : random.pick(['latest', 'offset', 'timestamp']),
    untilEnd: random.chance(0.3),
    consumption: random.pick(['processEach', 'processEach', 'settle', 'plain', 'iterate']),
    concurrency: random.pick([1, 4, 64]),
    inFlightBytes: random.pick([4 * KIB, 64 * KIB, 8 * MIB]),
    meanWorkMs: random.pick([0, 0.05, 1]),
    meanSessionMs: random.pick([workMs / 4, workMs, workMs * 100]),
  }
}

/** Each kind of fault is on in half of the runs: what is off lets what is on come through (swarm testing). */
function drawFaults(random: SeededRandom): FaultPlan {
  const gap = (from: number, to: number, probability = 0.5) =>
    random.chance(probability) ? random.logBetween(from, to) : null
  return {
    killMs: gap(100, 2000),
    powerCutMs: gap(100, 2000),
    gracefulStopMs: gap(800, 6000, 0.3),
    connectionLossMs: gap(30, 1500),
    silenceMs: gap(1000, 8000, 0.25),
    slowDiskMs: gap(500, 4000),
    diskErrorMs: gap(500, 5000, 0.25),
    fullDiskMs: gap(1500, 8000, 0.15),
    stallMs: gap(500, 4000, 0.3),
    clockJumpMs: gap(500, 4000, 0.2),
    clientKillMs: gap(1000, 6000, 0.3),
    topicChurnMs: gap(300, 3000, 0.3),
    longestDownMs: random.logBetween(5, 1500),
    tear: { garbage: random.pick([0, 0.05]), zero: random.pick([0, 0.05]), newer: random.pick([0.1, 0.5, 0.9]) },
    partitionMs: null,
    longestPartitionMs: 0,
    clogMs: null,
    transferMs: null,
    moveMs: null,
    memberMs: null,
    allAtOnceRate: 0,
  }
}

/**
 * An election takes a second: what befalls a cluster comes at times at which it can have a leader. Gaps are those of the
 * whole cluster.
 */
function drawClusterFaults(random: SeededRandom, brokers: number): FaultPlan {
  const gap = (from: number, to: number, probability = 0.5) =>
    random.chance(probability) ? random.logBetween(from / brokers, to / brokers) : null
  return {
    ...drawFaults(random.split('of one')),
    killMs: gap(1500, 20_000),
    powerCutMs: gap(1500, 20_000),
    gracefulStopMs: gap(4000, 30_000, 0.3),
    connectionLossMs: gap(200, 5000),
    silenceMs: gap(2000, 20_000, 0.25),
    slowDiskMs: gap(2000, 20_000),
    diskErrorMs: gap(4000, 20_000, 0.2),
    fullDiskMs: gap(6000, 30_000, 0.1),
    stallMs: gap(2000, 20_000, 0.4),
    clockJumpMs: gap(2000, 10_000, 0.2),
    partitionMs: gap(1500, 15_000, 0.6),
    longestPartitionMs: random.logBetween(100, 5000),
    clogMs: gap(1000, 10_000, 0.3),
    longestDownMs: random.logBetween(5, 3000),
    allAtOnceRate: random.pick([0, 0.05, 0.2]),
    transferMs: gap(500, 10_000),
    moveMs: gap(1_000, 10_000, 0.35),
  }
}

/** A cluster that begins with three brokers, or with one that the others come to. */
export function withComingAndGoing(options: SimulationOptions, random: SeededRandom): SimulationOptions {
  const faults = drawClusterFaults(random.split('faults'), 3)
  return {
    ...options,
    brokers: random.pick([1, 3, 3]),
    workMs: random.between(3000, 8000),
    // What was buffered and lost may need every voter, also one whose disk is lost for good.
    topics: options.topics.map((topic) => ({ ...topic, durability: 'flushed' })),
    faults: { ...faults, diskErrorMs: null, moveMs: null, memberMs: random.logBetween(100, 2_000) },
    triesLiveness: false,
    losesMetadata: false,
    rots: false,
  }
}

function drawClocks(random: SeededRandom, brokers: number): ClockPlan[] {
  return Array.from({ length: brokers }, () => ({
    clockRate: brokers > 1 && random.chance(0.3) ? random.between(0.95, 1.05) : 1,
    wallOffsetMs: brokers > 1 ? random.integer(-500, 500) : 0,
  }))
}

function drawScrub(random: SeededRandom): ScrubPlan {
  return {
    scrubBytesPerSecond: random.pick([0, MIB, 64 * MIB]),
    scrubRestMs: random.pick([5, 50, 500]),
  }
}

export function drawStorage(random: SeededRandom): StoragePlan {
  const smallest = random.pick([128 * KIB, 256 * KIB, MIB])
  return {
    slotBytes: [smallest, smallest * 2, 4 * MIB],
    maxGroupBytes: 512 * KIB,
    reserveSlots: random.integer(1, 4),
    checkpointBytes: random.pick([16 * KIB, 128 * KIB, MIB]),
    writesInFlight: random.pick([1, 4]),
    gatherBytes: random.pick([8 * KIB, 128 * KIB]),
    quickRollMs: random.pick([0, 10_000]),
  }
}
