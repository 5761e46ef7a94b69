// The partitions that a session reads, each with its cursor and its inbox, and whose turn it is. Partitions may come and
// go while the session runs.
import { Cursor, type CursorOwner } from './cursor.js'
import { Inbox, type InboxOwner } from './inbox.js'
import type { Position } from './partition-progress.js'
import type { StartPosition } from './subscribe-options.js'

export class PartitionReader<K, V> {
  isPaused = false

  constructor(
    readonly inbox: Inbox<K, V>,
    readonly cursor: Cursor,
  ) {}

  get partition(): number {
    return this.inbox.partition
  }

  /**
   * Everything below is finished. Null while it is not known where the partition begins.
   * @param inHand the inbox whose record was delivered last and is not known to be finished.
   */
  position(inHand: Inbox<K, V> | null): Position | null {
    const { inbox } = this
    if (inbox.fetchOffset < 0) return null
    const first = inbox.progress.firstUnsettled
    if (first !== null) return first
    if (inbox === inHand && inbox.progress.claimedBelow <= inbox.currentOffset) return inbox.currentPosition
    return { offset: inbox.nextOffset, term: inbox.deliveredTerm }
  }

  /** Nothing more is received or delivered. */
  close(): void {
    this.cursor.close()
    this.inbox.drop()
  }
}

export class PartitionReaders<K, V> {
  readonly #owner: CursorOwner & InboxOwner<K, V>
  readonly #readers = new Map<number, PartitionReader<K, V>>()
  /** Partitions with news, in the order they are served. */
  #ready: Inbox<K, V>[] = []
  readonly #inReady = new Set<Inbox<K, V>>()
  /** Whose batch is being delivered. */
  #current: Inbox<K, V> | null = null

  constructor(owner: CursorOwner & InboxOwner<K, V>) {
    this.#owner = owner
  }

  get size(): number {
    return this.#readers.size
  }

  get cursors(): Cursor[] {
    return [...this.#readers.values()].map(({ cursor }) => cursor)
  }

  get(partition: number): PartitionReader<K, V> | undefined {
    return this.#readers.get(partition)
  }

  /** Those of `partitions` that are read; all for null. */
  #some(partitions: readonly number[] | null): PartitionReader<K, V>[] {
    const all = [...this.#readers.values()]
    return partitions === null ? all : all.filter(({ partition }) => partitions.includes(partition))
  }

  /** @param tracked whether the position is asked for later. */
  add(topicId: number, partition: number, start: StartPosition, tracked = false): PartitionReader<K, V> {
    const inbox: Inbox<K, V> = new Inbox<K, V>(this.#owner, topicId, partition, () => cursor.onSettled(), tracked)
    const cursor = new Cursor(this.#owner, inbox, start)
    const reader = new PartitionReader(inbox, cursor)
    if (start.start === 'offset' && start.term !== undefined) inbox.resumeAt(start.position, start.term)
    this.#readers.set(partition, reader)
    return reader
  }

  remove(reader: PartitionReader<K, V>): void {
    if (this.#readers.get(reader.partition) === reader) this.#readers.delete(reader.partition)
    this.#setAside(reader.inbox)
    reader.close()
  }

  clear(): void {
    for (const reader of [...this.#readers.values()]) this.remove(reader)
  }

  /** The turn of an inbox with news comes; false when it is not to be taken from. */
  queue(inbox: Inbox<K, V>): boolean {
    const reader = this.#readers.get(inbox.partition)
    if (reader?.inbox !== inbox || reader.isPaused) return false
    if (inbox === this.#current || this.#inReady.has(inbox)) return true
    this.#inReady.add(inbox)
    this.#ready.push(inbox)
    return true
  }

  /** The inbox to take from; null when none has news. */
  next(): Inbox<K, V> | null {
    if (this.#current !== null) return this.#current
    const inbox = this.#ready.shift()
    if (inbox === undefined) return null
    this.#inReady.delete(inbox)
    this.#current = inbox
    return inbox
  }

  /** A batch of the current inbox has ended: the next partition has its turn. */
  endTurn(): void {
    this.#current = null
  }

  /** @param partitions null for all. */
  pause(partitions: readonly number[] | null): void {
    for (const reader of this.#some(partitions)) {
      reader.isPaused = true
      this.#setAside(reader.inbox)
    }
  }

  resume(partitions: readonly number[] | null): void {
    for (const reader of this.#some(partitions)) {
      reader.isPaused = false
      if (reader.inbox.hasNews) this.#owner.onNews(reader.partition)
    }
  }

  /** Those of `partitions` go where they are now; all for null. */
  place(partitions: Iterable<number> | null): void {
    if (partitions === null) for (const cursor of this.cursors) cursor.place()
    else for (const partition of new Set(partitions)) this.#readers.get(partition)?.cursor.place()
  }

  #setAside(inbox: Inbox<K, V>): void {
    if (this.#current === inbox) this.#current = null
    if (this.#inReady.delete(inbox)) this.#ready = this.#ready.filter((other) => other !== inbox)
  }
}
