// Asks every broker again and again where the partitions begin and end, also those that do not know yet that another leads:
// whoever answers must not be behind what anybody knew before the question.
import {
  ANY_CLUSTER,
  CODE_OK,
  encodeFrame,
  FrameDecoder,
  hello,
  MAX_FRAME_BYTES,
  type OffsetQuery,
  offsets,
  offsetsReply,
  PROTOCOL_VERSION,
  Reader,
} from '@millrace/protocol'
import { BROKER_PORT } from './broker-node.js'
import type { BoundsFact } from './checker/history.js'
import type { Coverage } from './coverage.js'
import type { TopicOptions } from './options.js'
import type { SeededRandom } from './random.js'
import type { Scheduler } from './scheduler.js'
import { SimulatedClientEnvironment } from './simulated-client-environment.js'
import type { SimulatedNetwork } from './simulated-network.js'

export interface ProbeWorld {
  readonly scheduler: Scheduler
  readonly network: SimulatedNetwork
  readonly coverage: Coverage
  readonly random: SeededRandom
  /** The brokers. */
  readonly hosts: readonly string[]
  /** In the order in which they are made: their ids count from 1. */
  readonly topics: readonly TopicOptions[]
  answered(bounds: BoundsFact): void
}

const MEAN_GAP_MS = 120
const REDIAL_MS = 200
/** What a broker leaves unanswered for longer is asked again, so that a link which is cut does not collect questions. */
const MOST_UNANSWERED = 4

interface Place {
  readonly topic: string
  readonly topicId: number
  readonly partition: number
}

export class BoundsProbe {
  private readonly environment: SimulatedClientEnvironment
  private readonly places: readonly Place[]
  private stopped = false

  constructor(private readonly world: ProbeWorld) {
    const { scheduler, network, random, topics } = world
    this.environment = new SimulatedClientEnvironment(scheduler, network, random.split('environment'), 'prober')
    this.places = topics.flatMap(({ name, partitions }, i) =>
      Array.from({ length: partitions }, (_, partition) => ({ topic: name, topicId: i + 1, partition })),
    )
  }

  begin(): void {
    for (const host of this.world.hosts) this.dial(host)
  }

  /** Hangs up. */
  stop(): void {
    this.stopped = true
    this.environment.kill()
  }

  private dial(host: string): void {
    if (this.stopped) return
    const conversation = new Conversation(this.world, this.places)
    const link = this.environment.dial(host, BROKER_PORT, {
      onOpen: () => {
        link.write([conversation.greeting()])
        this.askLater(conversation, (frame) => link.write([frame]))
      },
      onBytes: (chunk) => conversation.push(chunk),
      onDrain: () => {},
      onClosed: () => {
        conversation.isOver = true
        this.environment.timer(REDIAL_MS, () => this.dial(host))
      },
    })
  }

  private askLater(conversation: Conversation, write: (frame: Uint8Array) => void): void {
    const delayMs = Math.ceil(this.world.random.exponential(MEAN_GAP_MS))
    this.environment.timer(delayMs, () => {
      if (conversation.isOver) return
      const question = conversation.question()
      if (question !== null) write(question)
      this.askLater(conversation, write)
    })
  }
}

/** One connection: questions with the moment at which they were asked, and their answers. */
class Conversation {
  isOver = false
  private readonly decoder: FrameDecoder
  private readonly askedAtMs = new Map<number, number>()
  private lastId = 1

  constructor(
    private readonly world: ProbeWorld,
    private readonly places: readonly Place[],
  ) {
    this.decoder = new FrameDecoder(MAX_FRAME_BYTES, ({ kind, id }, payload) => {
      if (kind === offsetsReply.kind) this.answered(id, payload)
    })
  }

  greeting(): Uint8Array {
    const message = {
      ...{ minVersion: PROTOCOL_VERSION, maxVersion: PROTOCOL_VERSION, shard: 0, features: 0 },
      ...{ clusterId: ANY_CLUSTER, nodeId: 0, clientId: 'prober', software: 'prober' },
      authentication: new Uint8Array(0),
    }
    return encodeFrame(hello, message, { id: this.lastId })
  }

  /** Null while too many are open. */
  question(): Uint8Array | null {
    if (this.askedAtMs.size >= MOST_UNANSWERED) return null
    const queries = this.places.flatMap(({ topicId, partition }): OffsetQuery[] => [
      { topicId, partition, lane: 0, kind: 'earliest', timestamp: 0 },
      { topicId, partition, lane: 0, kind: 'latest', timestamp: 0 },
    ])
    this.askedAtMs.set(++this.lastId, this.world.scheduler.nowMs)
    return encodeFrame(offsets, { queries }, { id: this.lastId })
  }

  push(chunk: Uint8Array): void {
    this.decoder.push(chunk)
  }

  private answered(id: number, payload: Uint8Array): void {
    const askedAtMs = this.askedAtMs.get(id)
    if (askedAtMs === undefined) throw new Error('an answer to a question that was not asked')
    this.askedAtMs.delete(id)
    const { answers } = offsetsReply.decode(new Reader(payload))
    for (const [i, { topic, partition }] of this.places.entries()) {
      const start = answers[2 * i]!
      const end = answers[2 * i + 1]!
      if (start.code !== CODE_OK || end.code !== CODE_OK) continue
      this.world.coverage.count('bounds answered')
      const answeredAtMs = this.world.scheduler.nowMs
      const bounds = { topic, partition, askedAtMs, answeredAtMs }
      this.world.answered({ ...bounds, startOffset: start.offset, highWatermark: end.offset })
    }
  }
}
