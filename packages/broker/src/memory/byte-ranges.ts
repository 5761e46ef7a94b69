// A set of bytes as few ranges: which part of a frame has been verified since it was loaded.

export class ByteRanges {
  /** start, end, start, end …: ascending, neither touching nor overlapping. */
  private bounds: number[] = []

  has(start: number, end: number): boolean {
    for (let i = 0; i < this.bounds.length; i += 2) {
      if (this.bounds[i]! <= start) {
        if (end <= this.bounds[i + 1]!) return true
      } else return false
    }
    return false
  }

  add(start: number, end: number): void {
    const { bounds } = this
    // The usual case: a reader that goes forward.
    if (bounds.length > 0 && bounds.at(-1) === start) {
      bounds[bounds.length - 1] = end
      return
    }
    const merged: number[] = []
    let from = start
    let to = end
    let placed = false
    for (let i = 0; i < bounds.length; i += 2) {
      const low = bounds[i]!
      const high = bounds[i + 1]!
      if (high < from) merged.push(low, high)
      else if (low > to) {
        if (!placed) merged.push(from, to)
        placed = true
        merged.push(low, high)
      } else {
        from = Math.min(from, low)
        to = Math.max(to, high)
      }
    }
    if (!placed) merged.push(from, to)
    this.bounds = merged
  }
}
