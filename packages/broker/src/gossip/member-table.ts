// Everybody this node knows of, itself included, and whom of them to draw by chance.
import type { Address, Claim, MemberState, NodeId } from './gossip-types.js'
import type { Suspicion } from './suspicion.js'

export interface MemberEntry {
  claim: Claim
  /** While it is suspect. */
  suspicion: Suspicion | null
  /** When this node heard of its death; it is gossiped to for a while after that. */
  deadAtMs: number
}

export class MemberTable {
  private readonly entries = new Map<NodeId, MemberEntry>()
  private readonly suspects = new Set<MemberEntry>()
  /** All but this node, in no order: what a draw picks from. */
  private readonly others: MemberEntry[] = []
  private alive = 0

  constructor(
    private readonly self: NodeId,
    private readonly random: (bound: number) => number,
  ) {}

  get size(): number {
    return this.entries.size
  }

  /** Alive or suspect, this node included. */
  get liveCount(): number {
    return this.alive
  }

  /** Suspicions that run. */
  get suspected(): ReadonlySet<MemberEntry> {
    return this.suspects
  }

  get(nodeId: NodeId): MemberEntry | undefined {
    return this.entries.get(nodeId)
  }

  all(): IterableIterator<MemberEntry> {
    return this.entries.values()
  }

  put(claim: Claim, nowMs: number): MemberEntry {
    const entry = this.entries.get(claim.nodeId)
    if (entry === undefined) return this.insert(claim, nowMs)
    const wasLive = isLive(entry.claim.state)
    if (wasLive && !isLive(claim.state)) entry.deadAtMs = nowMs
    this.alive += Number(isLive(claim.state)) - Number(wasLive)
    entry.claim = claim
    return entry
  }

  remove(nodeId: NodeId): void {
    const entry = this.entries.get(nodeId)
    if (entry === undefined) return
    this.setSuspicion(entry, null)
    this.entries.delete(nodeId)
    if (isLive(entry.claim.state)) this.alive--
    const at = this.others.indexOf(entry)
    const last = this.others.pop()
    if (last !== undefined && last !== entry) this.others[at] = last
  }

  setSuspicion(entry: MemberEntry, suspicion: Suspicion | null): void {
    entry.suspicion = suspicion
    if (suspicion === null) this.suspects.delete(entry)
    else this.suspects.add(entry)
  }

  /** Up to `count` others, none twice, that `fits` says yes to. */
  draw(count: number, fits: (entry: MemberEntry) => boolean): MemberEntry[] {
    const { others } = this
    const drawn: MemberEntry[] = []
    // A partial shuffle: each one is looked at once at most.
    for (let left = others.length; left > 0 && drawn.length < count; left--) {
      const at = this.random(left)
      const entry = others[at]!
      others[at] = others[left - 1]!
      others[left - 1] = entry
      if (fits(entry)) drawn.push(entry)
    }
    return drawn
  }

  private insert(claim: Claim, nowMs: number): MemberEntry {
    const entry = { claim, suspicion: null, deadAtMs: nowMs }
    this.entries.set(claim.nodeId, entry)
    if (claim.nodeId !== this.self) this.others.push(entry)
    if (isLive(claim.state)) this.alive++
    return entry
  }
}

export function isLive(state: MemberState): boolean {
  return state === 'alive' || state === 'suspect'
}

/** Where a member listens; null while nobody has said so. */
export function addressOf({ claim }: MemberEntry): Address | null {
  return claim.profile?.record.peer ?? null
}
