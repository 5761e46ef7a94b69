// The way from one host to another: one direction, which may be cut or slow while the way back is not.

export class NetworkPath {
  /** On top of what the network takes anyway. */
  extraLatencyMs = 0
  private cut = false
  private readonly waiting = new Set<() => void>()

  constructor(
    readonly from: string,
    readonly to: string,
  ) {}

  /** Nothing arrives while it is cut; what is sent is sent again, as TCP does, until somebody loses patience. */
  get isCut(): boolean {
    return this.cut
  }

  sever(): void {
    this.cut = true
  }

  heal(): void {
    this.extraLatencyMs = 0
    if (!this.cut) return
    this.cut = false
    const due = [...this.waiting]
    this.waiting.clear()
    for (const each of due) each()
  }

  /** Calls back once, when the path is whole again. */
  whenHealed(callback: () => void): void {
    this.waiting.add(callback)
  }
}
