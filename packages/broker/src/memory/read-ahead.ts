// Recognises cursors that follow a log and says how far to read ahead of each: more the longer it goes on.

/** Cursors of one log that are told apart; the one that has been silent for longest is forgotten. */
const MOST_CURSORS = 8
/** The first time a read goes on where one ended, so many times its length is read ahead. */
const FIRST_FACTOR = 2
/**
 * What is ahead is filled up when so much of it has been come to. Pages asked for together go to the device together:
 * with one at a time, telling it of each costs as much as the rest of the read.
 */
const STEP_SHARE = 1 / 4

interface FollowedCursor {
  /** Where its next read begins if it goes on. */
  next: number
  aheadBytes: number
  /** Bytes asked for ahead of it that it has not come to. */
  leftBytes: number
}

/**
 * A cursor is known by the offset at which its last read ended: one that jumps or stops is followed no more by itself, and
 * cursors that stand at the same offset are one, since the first of them reads ahead for all.
 */
export class FollowedCursors {
  /** The one that read last stands at the end. */
  private cursors: FollowedCursor[] = []

  constructor(private readonly mostAheadBytes: number) {}

  /**
   * Takes note of a read of `byteLength` bytes. @returns how many bytes behind it to read ahead; 0 for a jump, and while
   * enough is ahead.
   */
  advance(offset: number, nextOffset: number, byteLength: number): number {
    const at = this.cursors.findIndex(({ next }) => next === offset)
    const [cursor] = at < 0 ? [{ next: 0, aheadBytes: 0, leftBytes: 0 }] : this.cursors.splice(at, 1)
    const followed = cursor!
    if (at >= 0) {
      const wanted = Math.max(followed.aheadBytes * 2, byteLength * FIRST_FACTOR)
      followed.aheadBytes = Math.min(wanted, this.mostAheadBytes)
      followed.leftBytes = Math.max(0, followed.leftBytes - byteLength)
    }
    followed.next = nextOffset
    this.cursors = this.cursors.filter(({ next, aheadBytes, leftBytes }) => {
      if (next !== nextOffset) return true
      followed.aheadBytes = Math.max(followed.aheadBytes, aheadBytes)
      followed.leftBytes = Math.max(followed.leftBytes, leftBytes)
      return false
    })
    this.cursors.push(followed)
    if (this.cursors.length > MOST_CURSORS) this.cursors.shift()
    if (at < 0 || followed.leftBytes > followed.aheadBytes * (1 - STEP_SHARE)) return 0
    followed.leftBytes = followed.aheadBytes
    return followed.aheadBytes
  }
}
