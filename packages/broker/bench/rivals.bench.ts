// The client beside those of Kafka, NATS and Redis, each in front of its own server, at equal acknowledgement, in turns: single
// awaited sends, the same by 64 callers, awaited batches of 100, consuming a backlog in the fastest form and record by record.
// 1 partition, 100 B and 1 KiB, for each core of the client: ratios are those of CPU time. `--only kafka,nats,redis` chooses
// the others, `--tasks single,consume` what is done, `--rounds N`, `--seconds N` and `--bytes 100,1024` how much. What cannot
// be had on this machine is told by name.
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs'
import { loadavg, tmpdir } from 'node:os'
import { join } from 'node:path'
import { parseArgs } from 'node:util'
import { ClientDoor } from './rivals/client-door.js'
import { contest, type Entrant, type Plan } from './rivals/contest.js'
import type { Addresses, ClientName } from './rivals/contestant.js'
import { startKafka } from './rivals/servers/kafka.js'
import { startNats } from './rivals/servers/nats.js'
import { startRedis } from './rivals/servers/redis.js'
import type { Systems } from './rivals/servers/systems.js'
import {
  type ClientSoftware,
  cacheFolder,
  clientSoftware,
  kafkaSoftware,
  natsServer,
  redisServer,
  Unavailable,
} from './rivals/software.js'
import { type Row, verdict } from './rivals/verdict.js'
import type { RunOptions } from './support/bench-options.js'
import { BrokerUnderTest } from './support/broker-under-test.js'
import { round } from './support/session.js'

export const name = 'rivals'
/** It fetches other people's programs, so `all` leaves it out. */
export const byNameOnly = true

interface Rival {
  readonly clients: readonly ClientName[]
  /** Starts its servers with their data in the folder. */
  start(cache: string, folder: string): Promise<{ readonly version: string; readonly systems: Systems }>
}

const RIVALS = {
  kafka: {
    clients: ['platformatic', 'kafkajs'],
    async start(cache, folder) {
      const software = await kafkaSoftware(cache)
      return { version: software.version, systems: await startKafka(software, folder) }
    },
  },
  nats: {
    clients: ['nats'],
    async start(cache, folder) {
      const program = await natsServer(cache)
      return { version: program.version, systems: await startNats(program, folder) }
    },
  },
  redis: {
    clients: ['redis'],
    async start(cache, folder) {
      const program = await redisServer(cache)
      return { version: program.version, systems: await startRedis(program, folder) }
    },
  },
} as const satisfies Readonly<Record<string, Rival>>

type RivalName = keyof typeof RIVALS
const NAMES = Object.keys(RIVALS) as readonly RivalName[]

interface Options {
  readonly only: readonly RivalName[]
  readonly plan: Plan
}

export async function run(options: RunOptions): Promise<object> {
  const { only, plan } = rivalsOptions(options)
  const missing: { rival: string; why: string }[] = []
  const versions: Record<string, string> = {}
  const cache = cacheFolder()
  mkdirSync(cache, { recursive: true })
  const software = only.length === 0 ? null : await clientsOrNull(cache, missing)
  if (software !== null) Object.assign(versions, software.versions)
  const arena = new Arena(software)
  const loadBefore = loadavg()[0]!
  try {
    const environment = await arena.enterMillrace()
    for (const rival of software === null ? [] : only) {
      const why = await arena.enter(RIVALS[rival], rival, cache, versions)
      if (why !== null) missing.push({ rival, why })
    }
    const results = verdict(await contest(arena.entrants, plan))
    const load = [loadBefore, loadavg()[0]!].map((value) => round(value, 1))
    if (!options.json) print({ missing, versions, load })
    return {
      name,
      results: results.map(flat),
      missing,
      versions,
      load,
      rounds: plan.rounds,
      seconds: plan.seconds,
      environment,
    }
  } finally {
    await arena.close()
  }
}

function rivalsOptions({ argv, tiny }: RunOptions): Options {
  const { values } = parseArgs({
    args: [...argv],
    options: {
      only: { type: 'string' },
      rounds: { type: 'string', default: tiny ? '1' : '5' },
      seconds: { type: 'string', default: tiny ? '0.1' : '1' },
      bytes: { type: 'string', default: tiny ? '100' : '100,1024' },
      tasks: { type: 'string' },
    },
  })
  // A moment's work starts no foreign servers unless they are asked for.
  const only = values.only?.split(',') ?? (tiny ? [] : NAMES)
  for (const rival of only) if (!isRival(rival)) throw new Error(`--only takes ${NAMES.join(', ')}, not ${rival}`)
  const plan: Plan = {
    tiny,
    recordBytes: values.bytes.split(',').map((text) => positive('--bytes', text)),
    rounds: positive('--rounds', values.rounds),
    seconds: positive('--seconds', values.seconds),
    backlogBytes: tiny ? 500_000 : 50_000_000,
    backlogRecords: tiny ? 0 : 150_000,
    tasks: values.tasks?.split(',') ?? null,
  }
  return { only: only.filter(isRival), plan }
}

const isRival = (text: string): text is RivalName => Object.hasOwn(RIVALS, text)

function positive(option: string, text: string): number {
  const number = Number(text)
  if (!(number > 0)) throw new Error(`${option} takes a number above zero, not ${text}`)
  return number
}

async function clientsOrNull(cache: string, missing: { rival: string; why: string }[]): Promise<ClientSoftware | null> {
  try {
    return await clientSoftware(cache)
  } catch (error) {
    if (!(error instanceof Unavailable)) throw error
    missing.push({ rival: 'all', why: error.message })
    return null
  }
}

/** The servers and the clients' processes of one run; `close` ends all of them and removes what they have stored. */
class Arena {
  readonly entrants: Entrant[] = []
  readonly #folder = mkdtempSync(join(tmpdir(), 'millrace-rivals-'))
  readonly #ends: (() => Promise<void>)[] = []

  constructor(private readonly software: ClientSoftware | null) {}

  async enterMillrace(): Promise<string> {
    const broker = await BrokerUnderTest.start('auto')
    this.#ends.push(() => broker.stop())
    await this.#enterClients(['millrace'], 'millrace', { buffered: broker.bootstrap, flushed: broker.bootstrap })
    return broker.environment
  }

  /** Null, or why it cannot be had. */
  async enter(rival: Rival, system: string, cache: string, versions: Record<string, string>): Promise<string | null> {
    try {
      const { version, systems } = await rival.start(cache, join(this.#folder, system))
      this.#ends.push(() => systems.stop())
      versions[`${system} server`] = version
      await this.#enterClients(rival.clients, system, systems.addresses)
      return null
    } catch (error) {
      if (!(error instanceof Unavailable)) throw error
      return error.message
    }
  }

  async #enterClients(clients: readonly ClientName[], system: string, addresses: Addresses): Promise<void> {
    for (const client of clients) {
      const door = await ClientDoor.open(client, addresses, this.software)
      this.entrants.push({ door, system })
    }
  }

  async close(): Promise<void> {
    for (const { door } of this.entrants) {
      try {
        await door.close()
      } catch (error) {
        console.error(error)
        door.kill()
      }
    }
    for (const end of this.#ends.reverse()) await end()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}

function print({ missing, versions, load }: { missing: readonly object[]; versions: object; load: readonly number[] }) {
  console.log(`  load average before and after: ${load.join(', ')}`)
  console.log(
    `  ${Object.entries(versions)
      .map(([what, version]) => `${what} ${version}`)
      .join(', ')}`,
  )
  for (const { rival, why } of missing as readonly { rival: string; why: string }[])
    console.log(`  MISSING ${rival}: ${why}`)
}

/** A row that fits into the table. */
const flat = ({ range, ...row }: Row): object => ({ ...row, lowest: range[0], highest: range[1] })
