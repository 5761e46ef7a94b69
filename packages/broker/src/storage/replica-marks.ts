// What is remembered of one replica besides its log: that there is one, and whether it may lack what it has acknowledged.
import type { LogKey } from './log-store.js'
import type { VoteJournal } from './vote-journal.js'
import { VOTE_MARKS } from './vote-record.js'

export class ReplicaMarks {
  /** Batches that were flushed. */
  lostAcknowledged: boolean
  /** Batches that were written and not flushed. */
  wasPowerLost: boolean

  /**
   * @param hasLog whether something of the log may be on disk.
   * @param wasPowerLost for a log that is found and was never voted for: nothing is remembered of it.
   */
  constructor(
    private readonly votes: VoteJournal,
    private readonly key: LogKey,
    public hasLog: boolean,
    isDamaged: boolean,
    wasPowerLost: boolean,
  ) {
    this.lostAcknowledged = isDamaged || votes.hasMark(key, VOTE_MARKS.damaged)
    this.wasPowerLost = votes.has(key) ? votes.hasMark(key, VOTE_MARKS.powerLost) : wasPowerLost
  }

  /** Something of the log goes to disk; it counts as written when this resolves. @throws StorageError. */
  begin(): Promise<void> {
    this.hasLog = true
    return this.votes.noteLog(this.key)
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
