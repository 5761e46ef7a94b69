// A phase in which nobody can decide on the metadata: most of its voters are stopped, then killed, while partitions whose
// majority is elsewhere take and give records as if nothing were.
import { setTimeout as sleep } from 'node:timers/promises'
import type { Mill } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import type { SeededRandom } from '../../sim/random.js'
import type { Recorder } from '../../sim/recorder.js'
import type { ClusterNode, ProcessCluster } from '../support/process-cluster.js'
import { round } from '../support/session.js'
import { follow, mustBeMillraceError, newMill, produce } from './fault-apps.js'
import type { FaultTopic } from './fault-workload.js'
import { Patience } from './patience.js'

const STEADY = { name: 'steady', label: 'steady' }
const LATER = { name: 'later', label: 'later' }
/** Of topics that are asked for while nobody can decide. */
const ASKED = 'asked-'
const REPLICAS = 3
const PRODUCERS = 2
/** What is sent while other brokers take over what the stopped ones led is late, and not lost. */
const DELIVERY_TIMEOUT_MS = 30_000
const CATCH_UP_MS = 10_000
const ASK_TIMEOUT_MS = 2_000
const LOOK_MS = 50

export interface CutOffOptions {
  readonly cluster: ProcessCluster
  readonly mill: Mill
  readonly random: SeededRandom
  readonly recorder: Recorder
  /** Half of it stopped, half of it killed. */
  readonly seconds: number
  readonly onOperation: (words: string) => void
}

export interface CutOffResult {
  readonly seconds: number
  readonly stopped: readonly number[]
  readonly running: readonly number[]
  readonly sends: number
  /** Those that were not acknowledged. */
  readonly failed: number
  /** The one that took longest: that others take over what the stopped ones led is in it. */
  readonly slowestSendMs: number
  /** Records that the consumer had got before the metadata came back. */
  readonly read: number
}

interface Sides {
  readonly stopped: readonly ClusterNode[]
  readonly running: readonly ClusterNode[]
}

export interface CutOff {
  readonly result: CutOffResult
  readonly problems: readonly string[]
  /** Those that were made for it. */
  readonly topics: readonly FaultTopic[]
}

/** @throws Error when the metadata does not come back. */
export async function cutOffMetadata(options: CutOffOptions): Promise<CutOff> {
  const { mill, seconds, onOperation } = options
  const patience = new Patience()
  patience.declarePeace()
  const { stopped, running } = await chooseSides(options, patience)
  const steady = await placeTopic(mill, { stopped, running }, patience)
  const load = new SteadyLoad(options)
  await load.untilFlowing(patience)

  const problems: string[] = []
  onOperation(`metadata cut off: ${idsOf(stopped)} stopped`)
  const beganMs = performance.now()
  for (const node of stopped) node.signal('SIGSTOP')
  problems.push(...(await mayNotDecide(options)))
  await untilMs(beganMs + seconds * 500)
  onOperation('metadata cut off: now they are killed')
  await Promise.all(stopped.map((node) => node.kill()))
  await untilMs(beganMs + seconds * 1000)
  problems.push(...(await load.end()))
  const cutOffMs = performance.now() - beganMs

  onOperation('metadata cut off: they come back')
  await Promise.all(stopped.map((node) => node.start()))
  await patience.until('a topic after the metadata came back', () => createLater(mill))
  const topics = [steady, { ...LATER, durability: 'flushed', partitions: 1, replicas: REPLICAS } as const]
  const result = {
    seconds: round(cutOffMs / 1000, 1),
    stopped: idsOf(stopped),
    running: idsOf(running),
    sends: load.sends,
    failed: load.sends - load.acknowledged,
    slowestSendMs: Math.round(load.slowestSendMs),
    read: load.read,
  }
  return { result, problems, topics }
}

const idsOf = (nodes: readonly ClusterNode[]): number[] => nodes.map(({ nodeId }) => nodeId)
const untilMs = (atMs: number): Promise<void> => sleep(Math.max(0, atMs - performance.now()))

/** The leader and so many voters more that the others are no majority; at least two brokers run on. */
async function chooseSides({ cluster, mill, random }: CutOffOptions, patience: Patience): Promise<Sides> {
  return patience.until('brokers that run on', async () => {
    const { metadata } = await admin(mill).clusterStatus()
    const voters = (await admin(mill).members()).filter(({ votes }) => votes).map(({ nodeId }) => nodeId)
    if (!voters.includes(metadata.leader) || voters.length < 3) return `${metadata.leader} leads, ${voters} decide`
    const others = voters.filter((nodeId) => nodeId !== metadata.leader)
    const chosen = new Set([metadata.leader])
    while (chosen.size <= voters.length / 2) chosen.add(random.pick(others))
    const stopped = cluster.nodes.filter(({ nodeId }) => chosen.has(nodeId))
    const running = cluster.nodes.filter(({ nodeId }) => !chosen.has(nodeId))
    return running.length < 2 ? `only ${running.length} brokers would run on` : { stopped, running }
  })
}

/** Every partition has its majority on those that run on; half of them are led by one that does not. */
async function placeTopic(mill: Mill, { stopped, running }: Sides, patience: Patience): Promise<FaultTopic> {
  const [first, second] = idsOf(running) as [number, number]
  const [away, other] = idsOf(stopped) as [number, number]
  const places = [
    [first, second, away],
    [second, first, other],
    [away, first, second],
    [other, second, first],
  ]
  const operator = admin(mill)
  await patience.until('a steady topic', async () => {
    if ((await operator.listTopics()).some(({ name }) => name === STEADY.name)) return {}
    return operator.createTopic(STEADY.name, { partitions: places.length, replicas: REPLICAS })
  })
  const asked = new Set<number>()
  await patience.until('the steady topic in its place', async () => {
    const { partitions } = await operator.describeTopic(STEADY.name)
    let missing: string | null = null
    for (const [partition, place] of places.entries()) {
      if (!asked.has(partition)) await operator.movePartition(STEADY.name, partition, place)
      asked.add(partition)
      const { leader, replicas } = partitions[partition]!
      const nodes = replicas.map(({ nodeId }) => nodeId)
      const isThere = nodes.length === REPLICAS && place.every((nodeId) => nodes.includes(nodeId))
      if (!isThere || leader !== place[0]) missing = `${partition} is led by ${leader} on ${nodes}, not by ${place}`
    }
    return missing ?? {}
  })
  return { ...STEADY, durability: 'flushed', partitions: places.length, replicas: REPLICAS }
}

/** A change that somebody asks for now is not made. */
async function mayNotDecide({ cluster, random }: CutOffOptions): Promise<string[]> {
  const mill = newMill(cluster.bootstrap, ASK_TIMEOUT_MS)
  const asked = `${ASKED}${random.integer(1, 1_000_000)}`
  try {
    await admin(mill).createTopic(asked, { partitions: 1 })
    return [`the topic ${asked} was created while most voters were stopped`]
  } catch (error) {
    mustBeMillraceError(error)
    return []
  } finally {
    await mill.close({ timeoutMs: 1_000 }).catch(mustBeMillraceError)
  }
}

async function createLater(mill: Mill): Promise<object> {
  const operator = admin(mill)
  const names = (await operator.listTopics()).map(({ name }) => name)
  // Those who were stopped may have done since what they were asked for: it is of no use.
  for (const name of names) if (name.startsWith(ASKED)) await operator.deleteTopic(name)
  if (!names.includes(LATER.name)) await operator.createTopic(LATER.name, { partitions: 1, replicas: REPLICAS })
  return {}
}

class SteadyLoad {
  sends = 0
  acknowledged = 0
  read = 0
  slowestSendMs = 0
  private isOver = false
  private isRead = false
  private readonly mills: Mill[]
  private readonly producers: Promise<void>[]
  private readonly consumer: Promise<unknown>

  constructor({ cluster, recorder, random }: CutOffOptions) {
    this.mills = Array.from({ length: PRODUCERS }, () => newMill(cluster.bootstrap))
    const common = { topic: STEADY, recorder }
    this.producers = this.mills.map((mill, i) =>
      produce({
        ...common,
        mill,
        name: `producer-${i + 1}-steady`,
        random: random.split(`steady-${i}`),
        deliveryTimeoutMs: DELIVERY_TIMEOUT_MS,
        isOver: () => this.isOver,
        onSend: () => {
          this.sends++
        },
        onAcknowledged: (afterMs) => {
          this.acknowledged++
          this.slowestSendMs = Math.max(this.slowestSendMs, afterMs)
        },
      }),
    )
    this.consumer = follow({
      ...common,
      mill: this.mills[0]!,
      name: 'consumer-steady',
      from: 'earliest',
      untilEnd: false,
      isOver: () => this.isRead,
      onRecord: () => {
        this.read++
      },
    })
  }

  async untilFlowing(patience: Patience): Promise<void> {
    await patience.until('records that flow', async () => (this.read > 0 ? {} : 'nothing was read'))
    this.slowestSendMs = 0
  }

  /** Everything that was sent is acknowledged and has been read, while the metadata is still away. */
  async end(): Promise<string[]> {
    const problems: string[] = []
    this.isOver = true
    await Promise.all(this.producers)
    const failed = this.sends - this.acknowledged
    if (failed > 0) problems.push(`while the metadata was cut off ${failed} sends were not acknowledged`)
    const endMs = performance.now() + CATCH_UP_MS
    while (this.read < this.acknowledged && performance.now() < endMs) await sleep(LOOK_MS)
    if (this.read < this.acknowledged) {
      problems.push(`while the metadata was cut off ${this.read} of ${this.acknowledged} records were read`)
    }
    this.isRead = true
    await this.consumer
    await Promise.all(this.mills.map((mill) => mill.close({ timeoutMs: 1_000 }).catch(mustBeMillraceError)))
    return problems
  }
}
