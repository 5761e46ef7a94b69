// The fingerprint of a run: every event goes into one hash, so that two runs can be told equal or not.

export class Trace {
  private low = 0x811c9dc5 | 0
  private high = 0x01000193 | 0
  private readonly labels = new Map<string, number>()
  /** When set, called with every note as text: the log of a replay. */
  onNote: ((label: string, values: readonly number[]) => void) | null = null

  /** Values are hashed as 32-bit integers; callers round what is not one. */
  note(label: string, ...values: readonly number[]): void {
    this.mix(this.hashOf(label))
    for (const value of values) this.mix(value | 0)
    this.onNote?.(label, values)
  }

  digest(): string {
    return (this.high >>> 0).toString(16).padStart(8, '0') + (this.low >>> 0).toString(16).padStart(8, '0')
  }

  private mix(value: number): void {
    this.low = Math.imul((this.low ^ value) | 0, 0x85ebca6b)
    this.low ^= this.low >>> 13
    this.high = Math.imul((this.high + this.low) | 0, 0xc2b2ae35)
    this.high ^= this.high >>> 16
  }

  private hashOf(label: string): number {
    let hash = this.labels.get(label)
    if (hash === undefined) {
      hash = 0x811c9dc5
      for (let i = 0; i < label.length; i++) hash = Math.imul(hash ^ label.charCodeAt(i), 0x01000193)
      this.labels.set(label, hash)
    }
    return hash
  }
}
