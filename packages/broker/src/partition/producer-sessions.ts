// The producer sessions of a partition: part of its replicated state, a pure function of the batches in its log.
// Hence eviction and expiry go by append order and append time, never by a clock.
import { assert, type BatchHeader, ProtocolError, producerName, type Reader, type Writer } from '@millrace/protocol'
import { MAX_SESSIONS_PER_PARTITION, SESSION_EXPIRY_MS } from '../limits.js'
import { type ProducerId, ProducerSession, sameProducer, sequenceDistance } from './producer-session.js'

/** What the sessions say of a batch that wants in. */
export type Verdict =
  | 'append'
  /** In the window: `original` tells where. */
  | 'duplicate'
  /** Acknowledged before, but older than the window. */
  | 'oldDuplicate'
  | 'fenced'
  | 'outOfOrder'
  | 'unknownProducer'

const STATE_VERSION = 1

export class ProducerSessions {
  /** By the first word of the id; sessions whose ids begin alike hang together. */
  readonly #byWord = new Map<number, ProducerSession>()
  #oldest: ProducerSession | null = null
  #newest: ProducerSession | null = null
  #size = 0

  constructor(readonly capacity = MAX_SESSIONS_PER_PARTITION) {
    assert(capacity > 0, 'a partition remembers at least one producer')
  }

  get size(): number {
    return this.#size
  }

  find(producer: ProducerId): ProducerSession | null {
    let session = this.#byWord.get(producer[0] | 0) ?? null
    while (session !== null && !sameProducer(session.producer, producer)) session = session.nextAlike
    return session
  }

  /** Judges a batch; changes nothing. */
  judge(header: BatchHeader): Verdict {
    const session = this.find(header.producer)
    if (session === null) return header.sequence === 0 ? 'append' : 'unknownProducer'
    if (header.epoch < session.epoch) return 'fenced'
    if (header.epoch > session.epoch) return header.sequence === 0 ? 'append' : 'outOfOrder'
    const distance = sequenceDistance(header.sequence, session.lastSequence)
    if (distance > 1) return 'outOfOrder'
    if (distance === 1) return 'append'
    return session.holds(header.sequence) ? 'duplicate' : 'oldDuplicate'
  }

  /**
   * Takes note of a batch that was appended. Also the way of replay, where batches were judged before they were
   * written: whatever the log holds is taken as it is.
   */
  appended(header: BatchHeader, baseOffset: number, index: number, appendTime: number): void {
    this.#expire(appendTime)
    let session = this.find(header.producer)
    if (session === null) {
      if (this.#size === this.capacity) this.#remove(this.#oldest!)
      session = new ProducerSession(header.producer, header.epoch)
      this.#insert(session)
    } else {
      if (session.epoch !== header.epoch) session.beginEpoch(header.epoch)
      this.#unlink(session)
      this.#linkNewest(session)
    }
    session.add(header.sequence, baseOffset, index, appendTime)
  }

  #expire(now: number): void {
    while (this.#oldest !== null && this.#oldest.lastAppendTime < now - SESSION_EXPIRY_MS) this.#remove(this.#oldest)
  }

  #insert(session: ProducerSession): void {
    const word = session.producer[0] | 0
    session.nextAlike = this.#byWord.get(word) ?? null
    this.#byWord.set(word, session)
    this.#linkNewest(session)
    this.#size++
  }

  #remove(session: ProducerSession): void {
    const word = session.producer[0] | 0
    let alike = this.#byWord.get(word) ?? null
    if (alike === session) {
      if (session.nextAlike === null) this.#byWord.delete(word)
      else this.#byWord.set(word, session.nextAlike)
    } else {
      while (alike !== null && alike.nextAlike !== session) alike = alike.nextAlike
      assert(alike !== null, 'a session hangs in the chain of its first word')
      alike.nextAlike = session.nextAlike
    }
    this.#unlink(session)
    this.#size--
  }

  #linkNewest(session: ProducerSession): void {
    session.older = this.#newest
    session.newer = null
    if (this.#newest === null) this.#oldest = session
    else this.#newest.newer = session
    this.#newest = session
  }

  #unlink(session: ProducerSession): void {
    if (session.older === null) this.#oldest = session.newer
    else session.older.newer = session.newer
    if (session.newer === null) this.#newest = session.older
    else session.newer.older = session.older
  }

  /** Sessions from the least recently used on, with their windows, as far as batches up to `lastIndex` made them. */
  encode(writer: Writer, lastIndex = Number.POSITIVE_INFINITY): void {
    const kept: { readonly session: ProducerSession; readonly count: number }[] = []
    for (let session = this.#oldest; session !== null; session = session.newer) {
      const count = session.countUpTo(lastIndex)
      if (count > 0) kept.push({ session, count })
    }
    writer.u16(STATE_VERSION).u32(kept.length)
    for (const { session, count } of kept) {
      for (const word of session.producer) writer.u32(word)
      const { oldestSequence } = session
      writer
        .u32(session.epoch)
        .u32((oldestSequence + count - 1) >>> 0)
        .u8(count)
      for (let i = 0; i < count; i++) {
        const sequence = (oldestSequence + i) >>> 0
        writer.u64(session.baseOffset(sequence)).u64(session.index(sequence)).u64(session.appendTime(sequence))
      }
    }
  }

  clear(): void {
    this.#byWord.clear()
    this.#oldest = this.#newest = null
    this.#size = 0
  }

  /** Replaces everything. @throws ProtocolError CORRUPT_FRAME for bytes that `encode` did not write. */
  restore(reader: Reader): void {
    this.clear()
    const version = reader.u16()
    if (version !== STATE_VERSION) throw new ProtocolError('CORRUPT_FRAME', `producer sessions of version ${version}`)
    const size = reader.count(reader.u32(), 25, this.capacity)
    for (let i = 0; i < size; i++) {
      const producer: ProducerId = [reader.u32(), reader.u32(), reader.u32(), reader.u32()]
      const session = new ProducerSession(producer, reader.u32())
      const lastSequence = reader.u32()
      const count = reader.u8()
      for (let entry = 0; entry < count; entry++) {
        const sequence = (lastSequence - count + 1 + entry) >>> 0
        session.add(sequence, reader.u64(), reader.u64(), reader.u64())
      }
      this.#insert(session)
    }
  }

  /** Why a batch is refused, in words. */
  explain(verdict: Verdict, header: BatchHeader): string {
    const name = producerName(header.producer)
    const session = this.find(header.producer)
    if (verdict === 'unknownProducer') return `producer ${name} begins with sequence ${header.sequence}`
    if (verdict === 'fenced') return `producer ${name} has epoch ${session?.epoch}, the batch ${header.epoch}`
    const expected = session !== null && session.epoch === header.epoch ? (session.lastSequence + 1) >>> 0 : 0
    return `sequence ${header.sequence} of producer ${name}, ${expected} is next`
  }
}
