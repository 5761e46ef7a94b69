// Finds a topic by its name: in the map held, else in one asked for afresh, so that a topic made a moment ago by
// somebody else is found and a misspelt one is told at once.
import type { TopicInfo } from '@millrace/protocol'
import type { Cluster, MapWaiter } from './cluster.js'
import { MillraceError } from './errors.js'

export interface TopicSeeker {
  onTopic(topic: TopicInfo): void
  /** UNKNOWN_TOPIC, or CONNECTION when nobody could be asked. */
  onNoTopic(error: MillraceError): void
}

export class TopicLookup {
  readonly #cluster: Cluster
  readonly #topicName: string
  readonly #seeker: TopicSeeker
  #waiter: MapWaiter | null = null

  constructor(cluster: Cluster, topicName: string, seeker: TopicSeeker) {
    this.#cluster = cluster
    this.#topicName = topicName
    this.#seeker = seeker
  }

  /** Begins, unless under way; the seeker may be told at once. */
  start(): void {
    if (this.#waiter === null) this.#cluster.whenMap(this.#wait(false))
  }

  cancel(): void {
    if (this.#waiter !== null) this.#cluster.forget(this.#waiter)
    this.#waiter = null
  }

  #wait(fresh: boolean): MapWaiter {
    this.#waiter = {
      onMap: () => this.#look(fresh),
      onNoMap: (error) => {
        this.#waiter = null
        this.#seeker.onNoTopic(error)
      },
    }
    return this.#waiter
  }

  #look(fresh: boolean): void {
    this.#waiter = null
    const topic = this.#cluster.topic(this.#topicName)
    if (topic !== undefined) {
      this.#seeker.onTopic(topic)
    } else if (fresh) {
      const context = { topic: this.#topicName, outcome: 'failed' as const }
      const detail = `there is no topic ${this.#topicName}`
      this.#seeker.onNoTopic(new MillraceError('ERR_MILLRACE_UNKNOWN_TOPIC', detail, context))
    } else {
      this.#cluster.whenFresh(this.#wait(true))
    }
  }
}
