// Finds out what became of every record. Each record of a key carries a number: 0, 1, 2 and so on, given out here.
// What is acknowledged must come back, once, and in the order of its numbers.

const ACKNOWLEDGED = 1
const RECEIVED = 2

class KeyHistory {
  next = 0
  lastReceived = -1
  /** What has happened to each number, as bits. */
  #marks = new Uint8Array(64)

  number(): number {
    if (this.next === this.#marks.length) {
      const larger = new Uint8Array(this.#marks.length * 2)
      larger.set(this.#marks)
      this.#marks = larger
    }
    return this.next++
  }

  /** @returns what was marked before. */
  mark(number: number, bit: number): number {
    const marks = this.#marks[number] ?? 0
    this.#marks[number] = marks | bit
    return marks
  }

  /** Numbers that have exactly these marks. */
  count(marks: number): number {
    let count = 0
    for (let number = 0; number < this.next; number++) if (this.#marks[number] === marks) count++
    return count
  }
}

export interface CheckResult {
  readonly sent: number
  readonly acknowledged: number
  /** Records handed over by the consumer, duplicates included. */
  readonly received: number
  /** Acknowledged, but never received. */
  readonly lost: number
  readonly duplicated: number
  /** Received after a later record of the same key. */
  readonly outOfOrder: number
  /** Neither acknowledged nor received: their sends failed, or nobody can say. */
  readonly unresolved: number
}

export class Checker {
  sent = 0
  acknowledged = 0
  received = 0
  /** Acknowledged and not yet received. */
  missing = 0
  #duplicated = 0
  #outOfOrder = 0
  readonly #keys = new Map<string, KeyHistory>()

  /** The number for the next record of a key. */
  send(key: string): number {
    const history = this.#keys.get(key) ?? new KeyHistory()
    if (history.next === 0) this.#keys.set(key, history)
    this.sent++
    return history.number()
  }

  acknowledge(key: string, number: number): void {
    const before = this.#keys.get(key)?.mark(number, ACKNOWLEDGED)
    this.acknowledged++
    if (before === 0) this.missing++
  }

  receive(key: string, number: number): void {
    const history = this.#keys.get(key)
    if (history === undefined || !(number < history.next)) throw new Error(`${key} ${number} was never sent`)
    this.received++
    const before = history.mark(number, RECEIVED)
    if (before === ACKNOWLEDGED) this.missing--
    if (before & RECEIVED) this.#duplicated++
    else if (number < history.lastReceived) this.#outOfOrder++
    history.lastReceived = Math.max(history.lastReceived, number)
  }

  result(): CheckResult {
    let lost = 0
    let unresolved = 0
    for (const history of this.#keys.values()) {
      lost += history.count(ACKNOWLEDGED)
      unresolved += history.count(0)
    }
    return {
      sent: this.sent,
      acknowledged: this.acknowledged,
      received: this.received,
      lost,
      duplicated: this.#duplicated,
      outOfOrder: this.#outOfOrder,
      unresolved,
    }
  }
}

export const isClean = (result: CheckResult): boolean =>
  result.lost === 0 && result.duplicated === 0 && result.outOfOrder === 0
