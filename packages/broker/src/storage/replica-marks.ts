// What is remembered of one replica besides its log: whether it may lack batches that it has acknowledged.
import type { LogKey } from './log-store.js'
import type { VoteJournal } from './vote-journal.js'
import { VOTE_MARKS } from './vote-record.js'

export class ReplicaMarks {
  /** Batches that were flushed. */
  lostAcknowledged: boolean
  /** Batches that were written and not flushed. */
  wasPowerLost: boolean

  /** @param wasPowerLost for a log that is found and was never voted for: nothing is remembered of it. */
  constructor(
    private readonly votes: VoteJournal,
    private readonly key: LogKey,
    isDamaged: boolean,
    wasPowerLost: boolean,
  ) {
    this.lostAcknowledged = isDamaged || votes.hasMark(key, VOTE_MARKS.damaged)
    this.wasPowerLost = votes.has(key) ? votes.hasMark(key, VOTE_MARKS.powerLost) : wasPowerLost
  }

  /** The damage is about to be repaired, and nothing on disk will tell of it any more. @throws StorageError. */
  remember(): Promise<void> {
    return this.lostAcknowledged ? this.votes.mark(this.key, VOTE_MARKS.damaged, 0) : Promise.resolve()
  }

  /** @throws StorageError. */
  async noteWhole(): Promise<void> {
    await this.votes.mark(this.key, 0, VOTE_MARKS.damaged | VOTE_MARKS.powerLost)
    this.lostAcknowledged = false
    this.wasPowerLost = false
  }
}
