// What the feed keeps in SQLite: a balance for each account, and beside it, in the same transaction, how far each partition
// was applied. Either both are there after a crash or neither, and that is what makes the feed exactly once.
import { closeSync, existsSync, fsyncSync, openSync, readFileSync, renameSync, writeSync } from 'node:fs'
import initSqlJs, { type Database } from 'sql.js'

export interface Change {
  readonly partition: number
  readonly offset: number
  readonly account: string
  readonly cents: number
}

const SCHEMA = `
  CREATE TABLE IF NOT EXISTS balance (account TEXT PRIMARY KEY, cents INTEGER NOT NULL);
  CREATE TABLE IF NOT EXISTS applied (partition INTEGER PRIMARY KEY, next_offset INTEGER NOT NULL);`

export class Balances {
  private constructor(
    private readonly file: string,
    private readonly database: Database,
  ) {}

  static async open(file: string): Promise<Balances> {
    const { Database } = await initSqlJs()
    const database = new Database(existsSync(file) ? readFileSync(file) : null)
    database.run(SCHEMA)
    return new Balances(file, database)
  }

  /** Where each partition goes on; 0 for one of which nothing was applied. */
  nextOffsets(partitions: number): Record<number, number> {
    const offsets = Object.fromEntries(Array.from({ length: partitions }, (_, partition) => [partition, 0]))
    for (const [partition, next] of this.rows('SELECT partition, next_offset FROM applied')) {
      offsets[Number(partition)] = Number(next)
    }
    return offsets
  }

  /** Adds changes to their accounts and moves the offsets, all or nothing, and resolves when it is on disk. */
  apply(changes: readonly Change[]): void {
    const { database } = this
    database.run('BEGIN')
    for (const { account, cents, partition, offset } of changes) {
      database.run(
        'INSERT INTO balance VALUES (?, ?) ON CONFLICT (account) DO UPDATE SET cents = cents + excluded.cents',
        [account, cents],
      )
      database.run(
        'INSERT INTO applied VALUES (?, ?) ON CONFLICT (partition) DO UPDATE SET next_offset = excluded.next_offset',
        [partition, offset + 1],
      )
    }
    database.run('COMMIT')
    this.save()
  }

  all(): Map<string, number> {
    const rows = this.rows('SELECT account, cents FROM balance ORDER BY account')
    return new Map(rows.map(([account, cents]) => [String(account), Number(cents)]))
  }

  close(): void {
    this.database.close()
  }

  private rows(query: string): unknown[][] {
    return this.database.exec(query)[0]?.values ?? []
  }

  /** SQLite runs in memory here, so that the example needs no compiler; the file changes as a whole or not at all. */
  private save(): void {
    const next = `${this.file}.next`
    const handle = openSync(next, 'w')
    writeSync(handle, this.database.export())
    fsyncSync(handle)
    closeSync(handle)
    renameSync(next, this.file)
  }
}
