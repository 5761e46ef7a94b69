// Bookings into SQLite exactly once: a process follows a topic, is killed again and again between two instructions, and
// every balance is right in the end.
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startTestCluster } from '@millrace/broker/testing'
import { connect } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { Balances } from './balances.js'
import { Bookings, PARTITIONS } from './feed.js'

const ACCOUNTS = 100
const PROGRAM = fileURLToPath(new URL('feed-process.js', import.meta.url))

export interface Result {
  readonly bookings: number
  readonly kills: number
  /** Accounts whose balance is not the sum of what was booked. */
  readonly wrong: number
}

/** @param kills how often the feed is killed before it may end. */
export async function run(bookings: number, kills: number): Promise<Result> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-change-feed-'))
  const cluster = await startTestCluster({ brokers: 1 })
  const mill = connect({ bootstrap: cluster.bootstrap })
  try {
    await admin(mill).createTopic(Bookings.name, { partitions: PARTITIONS })
    const expected = new Map<string, number>()
    const records = Array.from({ length: bookings }, (_, i) => {
      const account = `account-${(i * 7919) % ACCOUNTS}`
      const cents = ((i * 31) % 2001) - 1000
      expected.set(account, (expected.get(account) ?? 0) + cents)
      return { key: account, value: { cents } }
    })
    const producer = mill.producer(Bookings)
    for (let i = 0; i < records.length; i += 1000) await producer.sendBatch(records.slice(i, i + 1000))

    const file = join(directory, 'balances.sqlite')
    for (let i = 0; i < kills; i++) await follow(cluster.bootstrap, file, i + 1)
    await follow(cluster.bootstrap, file, null)
    const balances = await Balances.open(file)
    const found = balances.all()
    balances.close()
    const wrong = [...expected].filter(([account, cents]) => found.get(account) !== cents).length
    return { bookings, kills, wrong }
  } finally {
    await mill.close()
    await cluster.stop()
    rmSync(directory, { recursive: true, force: true })
  }
}

/** @param transactions after so many the process is killed; null lets it end. */
async function follow(bootstrap: string, file: string, transactions: number | null): Promise<void> {
  const child = spawn(process.execPath, [PROGRAM, bootstrap, file], { stdio: ['ignore', 'pipe', 'inherit'] })
  const over = once(child, 'close')
  let seen = 0
  for await (const _ of createInterface({ input: child.stdout })) {
    if (++seen === transactions) child.kill('SIGKILL')
  }
  const [code] = (await over) as [number | null]
  if (code !== 0 && transactions === null) throw new Error(`the feed ended with code ${code}`)
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: { bookings: { type: 'string' }, kills: { type: 'string' }, json: { type: 'boolean' } },
  })
  const result = await run(Number(values.bookings ?? 20_000), Number(values.kills ?? 5))
  const { bookings, kills, wrong } = result
  console.log(
    `${bookings} bookings on ${ACCOUNTS} accounts, the feed killed ${kills} times: ${wrong} balances are wrong`,
  )
  if (values.json === true) console.log(JSON.stringify(result))
  process.exitCode = wrong === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
