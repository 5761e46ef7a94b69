// Until when each member's lease runs, by the clock of the broker that leads the coordinator's partition. Never in the log: a
// new leader grants everybody a whole lease.
import type { MemberId } from './group-types.js'

/** A member in one of its lives. */
export interface LeasedMember {
  readonly group: string
  readonly memberId: MemberId
  readonly memberEpoch: number
  readonly leaseMs: number
}

interface Lease {
  readonly member: LeasedMember
  untilMs: number
}

/** All times are monotonic milliseconds. */
export class Leases {
  readonly #byGroup = new Map<string, Map<MemberId, Lease>>()
  /** No lease runs out before. */
  #earliestMs = Number.POSITIVE_INFINITY

  get count(): number {
    let count = 0
    for (const leases of this.#byGroup.values()) count += leases.size
    return count
  }

  /** When to look again at the earliest; infinity without leases. */
  get earliestMs(): number {
    return this.#earliestMs
  }

  /** A whole lease from now on; replaces one of an earlier life. */
  grant(member: LeasedMember, nowMs: number): void {
    let leases = this.#byGroup.get(member.group)
    if (leases === undefined) {
      leases = new Map()
      this.#byGroup.set(member.group, leases)
    }
    const untilMs = nowMs + member.leaseMs
    leases.set(member.memberId, { member, untilMs })
    this.#earliestMs = Math.min(this.#earliestMs, untilMs)
  }

  /** @returns false for a member without a lease: it is being expired, or was never granted one. */
  renew(group: string, memberId: MemberId, memberEpoch: number, nowMs: number): boolean {
    const lease = this.#byGroup.get(group)?.get(memberId)
    if (lease === undefined || lease.member.memberEpoch !== memberEpoch) return false
    // One that has run out is over, whether or not anybody has looked yet.
    if (lease.untilMs <= nowMs) return false
    lease.untilMs = nowMs + lease.member.leaseMs
    return true
  }

  /** The member has left, or was fenced. */
  drop(group: string, memberId: MemberId): void {
    const leases = this.#byGroup.get(group)
    if (leases === undefined || !leases.delete(memberId)) return
    if (leases.size === 0) this.#byGroup.delete(group)
  }

  /** Those whose lease has run out, each told once: an `expire` command is to follow for each of them. */
  takeExpired(nowMs: number): readonly LeasedMember[] {
    if (nowMs < this.#earliestMs) return []
    const expired: LeasedMember[] = []
    let earliestMs = Number.POSITIVE_INFINITY
    for (const leases of this.#byGroup.values()) {
      for (const { member, untilMs } of leases.values()) {
        if (untilMs <= nowMs) expired.push(member)
        else earliestMs = Math.min(earliestMs, untilMs)
      }
    }
    this.#earliestMs = earliestMs
    for (const { group, memberId } of expired) this.drop(group, memberId)
    return expired
  }

  clear(): void {
    this.#byGroup.clear()
    this.#earliestMs = Number.POSITIVE_INFINITY
  }
}
