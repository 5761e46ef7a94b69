// The process of one client: carries out orders, measures itself, and checks that every record it was promised is there.
import { pathToFileURL } from 'node:url'
import { kafkajsContestant } from './clients/kafkajs.js'
import { millraceContestant } from './clients/millrace.js'
import { natsContestant } from './clients/nats.js'
import { platformaticContestant } from './clients/platformatic.js'
import { redisContestant } from './clients/redis.js'
import type {
  Answer,
  ClientName,
  ConsumeOrder,
  Contestant,
  Figures,
  FillOrder,
  Load,
  OpenOrder,
  Order,
  ProduceOrder,
} from './contestant.js'
import { IndexedValues, indexAt } from './indexed-values.js'

const RECORDS_PER_FILL = 1000
const WARM_UP_SHARE = 0.2
/** In the round that does not count: calls after which a client's code is compiled, and how long they may take. */
const WARM_UP_CALLS = 20_000
const WARM_UP_SECONDS = 5
/** Several calls at once, or those who wait for the disk would never be warm; fewer than the pool has values for. */
const WARM_UP_CALLERS = 8
const MICROSECONDS_PER_SECOND = 1e6
const NOTHING: Figures = { records: 0, seconds: 0, cpuSeconds: 0 }

const OPEN: Readonly<Record<ClientName, (order: OpenOrder, load: Load) => Promise<Contestant>>> = {
  millrace: async ({ addresses }) => millraceContestant(addresses),
  platformatic: ({ addresses }, load) => platformaticContestant(addresses, load),
  kafkajs: ({ addresses }, load) => kafkajsContestant(addresses, load),
  nats: ({ addresses }, load) => natsContestant(addresses, load),
  redis: ({ addresses }, load) => redisContestant(addresses, load),
}

let contestant: Contestant | null = null

async function open(order: OpenOrder): Promise<Figures> {
  const load: Load = async (name) => {
    const { load } = (await import(pathToFileURL(order.loader).href)) as { load: Load }
    return load(name)
  }
  contestant = await OPEN[order.client](order, load)
  return NOTHING
}

async function fill(client: Contestant, { topic, recordBytes, records }: FillOrder): Promise<Figures> {
  const values = new IndexedValues(recordBytes)
  const sender = await client.sender(topic, 'buffered')
  for (let sent = 0; sent < records; sent += RECORDS_PER_FILL)
    await sender.sendBatch(values.next(Math.min(RECORDS_PER_FILL, records - sent)))
  await sender.close()
  const stored = await client.stored(topic, 'buffered')
  if (stored !== records) throw new Error(`${records} records were acknowledged, ${stored} are there`)
  return NOTHING
}

/** Closed loops: each caller awaits its call before the next. */
async function produce(client: Contestant, order: ProduceOrder): Promise<Figures> {
  const { topic, durability, recordsPerCall } = order
  const values = new IndexedValues(order.recordBytes)
  const sender = await client.sender(topic, durability)
  const call = async (): Promise<void> => {
    if (recordsPerCall === 1) await sender.send(values.one())
    else await sender.sendBatch(values.next(recordsPerCall))
  }
  const loop = async (seconds: number, mostCalls = Number.POSITIVE_INFINITY): Promise<number> => {
    const end = performance.now() + seconds * 1000
    let calls = 0
    do {
      await call()
      calls++
    } while (performance.now() < end && calls < mostCalls)
    return calls * recordsPerCall
  }
  let warmUp = 0
  if (order.warmUp) {
    const each = WARM_UP_CALLS / Math.sqrt(recordsPerCall) / WARM_UP_CALLERS
    const callers = Array.from({ length: WARM_UP_CALLERS }, () => loop(WARM_UP_SECONDS, each))
    for (const records of await Promise.all(callers)) warmUp += records
  }
  const last = await loop(order.seconds * WARM_UP_SHARE)
  warmUp += last
  globalThis.gc?.()
  const meter = new Meter()
  let records = 0
  for (const sent of await Promise.all(Array.from({ length: order.callers }, () => loop(order.seconds))))
    records += sent
  const figures = meter.read(records)
  await sender.close()
  const stored = await client.stored(topic, durability)
  if (stored !== warmUp + records) throw new Error(`${warmUp + records} records were acknowledged, ${stored} are there`)
  return figures
}

/** Time counts from the first record on, CPU time from the call: what is fetched ahead of the first record is work too. */
async function consume(client: Contestant, order: ConsumeOrder): Promise<Figures> {
  globalThis.gc?.()
  const meter = new Meter()
  let received = 0
  let figures = NOTHING
  await client.consume(order.topic, order.form, (bytes, start = 0, end = bytes.length) => {
    if (received === 0) meter.restartClock()
    if (figures !== NOTHING) return true
    if (end - start !== order.recordBytes || indexAt(bytes, start) !== received)
      throw new Error(`record ${received} is not there: got ${indexAt(bytes, start)} with ${end - start} bytes`)
    received++
    if (received < order.records) return false
    figures = meter.read(received)
    return true
  })
  if (figures === NOTHING) throw new Error(`the topic ended after ${received} of ${order.records} records`)
  return figures
}

class Meter {
  readonly #cpu = process.cpuUsage()
  #beganMs = performance.now()

  restartClock(): void {
    this.#beganMs = performance.now()
  }

  read(records: number): Figures {
    const seconds = (performance.now() - this.#beganMs) / 1000
    const { user, system } = process.cpuUsage(this.#cpu)
    return { records, seconds, cpuSeconds: (user + system) / MICROSECONDS_PER_SECOND }
  }
}

async function carryOut(order: Order): Promise<Figures> {
  if (order.kind === 'open') return open(order)
  if (contestant === null) throw new Error('no client is open')
  if (order.kind === 'create') await contestant.createTopic(order.topic, order.durability)
  else if (order.kind === 'remove') await contestant.removeTopic(order.topic, order.durability)
  else if (order.kind === 'fill') return fill(contestant, order)
  else if (order.kind === 'produce') return produce(contestant, order)
  else if (order.kind === 'consume') return consume(contestant, order)
  else await contestant.close()
  return NOTHING
}

function answer(text: Answer, last: boolean): void {
  process.send!(text, () => {
    if (last) process.disconnect()
  })
}

process.on('message', (order: Order) => {
  const last = order.kind === 'close'
  carryOut(order).then(
    (figures) => answer({ figures }, last),
    (error: Error) => answer({ error: error.stack ?? error.message }, last),
  )
})
process.once('disconnect', () => process.exit())
