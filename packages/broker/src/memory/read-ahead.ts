// Recognises cursors that follow a log and says how far to read ahead of each: more the longer it goes on.

/** Cursors of one log that are told apart; the one that has been silent for longest is forgotten. */
const MOST_CURSORS = 8
/** The first time a read goes on where one ended, so many times its length is read ahead. */
const FIRST_FACTOR = 2

interface FollowedCursor {
  /** Where its next read begins if it goes on. */
  next: number
  aheadBytes: number
}

/**
 * A cursor is known by the offset at which its last read ended: one that jumps or stops is followed no more by itself, and
 * cursors that stand at the same offset are one, since the first of them reads ahead for all.
 */
export class FollowedCursors {
  /** The one that read last stands at the end. */
  private cursors: FollowedCursor[] = []

  constructor(private readonly mostAheadBytes: number) {}

  /** Takes note of a read of `byteLength` bytes. @returns how many bytes behind it to read ahead; 0 for a jump. */
  advance(offset: number, nextOffset: number, byteLength: number): number {
    const at = this.cursors.findIndex(({ next }) => next === offset)
    const [cursor] = at < 0 ? [{ next: 0, aheadBytes: 0 }] : this.cursors.splice(at, 1)
    const followed = cursor!
    if (at >= 0) {
      const wanted = Math.max(followed.aheadBytes * 2, byteLength * FIRST_FACTOR)
      followed.aheadBytes = Math.min(wanted, this.mostAheadBytes)
    }
    followed.next = nextOffset
    this.cursors = this.cursors.filter(({ next, aheadBytes }) => {
      if (next !== nextOffset) return true
      followed.aheadBytes = Math.max(followed.aheadBytes, aheadBytes)
      return false
    })
    this.cursors.push(followed)
    if (this.cursors.length > MOST_CURSORS) this.cursors.shift()
    return at < 0 ? 0 : followed.aheadBytes
  }
}
