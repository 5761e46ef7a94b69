// How many datagrams of hosts that have not proved themselves are opened: a flood of them costs no more than this.

/** Together, each second. */
const UNPROVED_PER_SECOND = 500
const MAX_PROVED_HOSTS = 4_096
/** A host has to prove itself again after so long. */
const PROVED_MS = 60_000

export class SourceLimit {
  private readonly proved = new Map<string, number>()
  private left = UNPROVED_PER_SECOND
  private filledAtMs: number

  constructor(nowMs: number) {
    this.filledAtMs = nowMs
  }

  /** Asked before a datagram is opened. */
  allows(host: string, nowMs: number): boolean {
    const provedAtMs = this.proved.get(host)
    if (provedAtMs !== undefined && nowMs - provedAtMs < PROVED_MS) return true
    if (nowMs - this.filledAtMs >= 1_000) {
      this.left = UNPROVED_PER_SECOND
      this.filledAtMs = nowMs
    }
    if (this.left === 0) return false
    this.left--
    return true
  }

  /** A member has spoken from there. */
  prove(host: string, nowMs: number): void {
    const [oldest] = this.proved.keys()
    if (this.proved.size >= MAX_PROVED_HOSTS && oldest !== undefined) this.proved.delete(oldest)
    this.proved.set(host, nowMs)
  }
}
