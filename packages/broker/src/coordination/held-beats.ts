// Beats that are held until there is news for their member, all of this node: bounded for each connection, and gone with it.
import type { Clock, Timer } from '../environment.js'
import { MAX_HELD_BEATS_PER_CONNECTION } from '../limits.js'

export interface HeldBeat {
  readonly group: string
  readonly memberId: bigint
  /** Whoever answers for the member. */
  readonly owner: object
  /** It is held no more: there is news, time is up, or the connection is gone. Nothing here may throw. */
  end(): void
}

/** Where a beat came from. */
export interface BeatConnection {
  onceClosed(callback: () => void): void
}

interface Hold {
  readonly beat: HeldBeat
  readonly timer: Timer
  readonly connection: BeatConnection
}

export class HeldBeats {
  readonly #byGroup = new Map<string, Map<bigint, Hold>>()
  /** Of each connection in the order they came; kept until it is closed. */
  readonly #byConnection = new Map<BeatConnection, Set<Hold>>()

  constructor(private readonly clock: Clock) {}

  get count(): number {
    let count = 0
    for (const members of this.#byGroup.values()) count += members.size
    return count
  }

  /** A beat of the same member that is still held is answered, and so is the oldest one of a connection that has too many. */
  hold(beat: HeldBeat, connection: BeatConnection, forMs: number): void {
    this.answer(beat.group, beat.memberId)
    const ofConnection = this.#holdsOf(connection)
    if (ofConnection.size >= MAX_HELD_BEATS_PER_CONNECTION) {
      for (const oldest of ofConnection) {
        this.#end(oldest)
        break
      }
    }
    const timer = this.clock.timer(forMs, () => this.#end(hold))
    const hold: Hold = { beat, timer, connection }
    ofConnection.add(hold)
    const members = this.#byGroup.get(beat.group) ?? new Map<bigint, Hold>()
    members.set(beat.memberId, hold)
    this.#byGroup.set(beat.group, members)
  }

  answer(group: string, memberId: bigint): void {
    const hold = this.#byGroup.get(group)?.get(memberId)
    if (hold !== undefined) this.#end(hold)
  }

  /** Everything that waits for this owner. */
  answerAllOf(owner: object): void {
    const all = [...this.#byGroup.values()].flatMap((members) => [...members.values()])
    for (const hold of all) if (hold.beat.owner === owner) this.#end(hold)
  }

  #holdsOf(connection: BeatConnection): Set<Hold> {
    const known = this.#byConnection.get(connection)
    if (known !== undefined) return known
    const holds = new Set<Hold>()
    this.#byConnection.set(connection, holds)
    connection.onceClosed(() => {
      this.#byConnection.delete(connection)
      for (const hold of [...holds]) this.#end(hold)
    })
    return holds
  }

  #end(hold: Hold): void {
    const { group, memberId } = hold.beat
    hold.timer.cancel()
    const members = this.#byGroup.get(group)
    members?.delete(memberId)
    if (members?.size === 0) this.#byGroup.delete(group)
    this.#byConnection.get(hold.connection)?.delete(hold)
    hold.beat.end()
  }
}
