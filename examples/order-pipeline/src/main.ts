// An order pipeline: two workers share the orders, a payment service fails every now and then, three orders can never be
// charged, and one record is no order at all. In the end every order is invoiced or a dead letter, in order per customer.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { startTestCluster } from '@millrace/broker/testing'
import { connect, deadLetterOf, MillraceError } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { type Charge, DEAD_LETTERS, GROUP, Invoices, Orders, work } from './orders.js'

const CUSTOMERS = 40
const PARTITIONS = 6
/** Charging these never works. */
const HOPELESS = new Set([7, 77, 177])

export interface Result {
  readonly orders: number
  readonly invoiced: number
  /** What was set aside, and why. */
  readonly deadLetters: readonly string[]
  /** Orders of one customer that were invoiced before an earlier one. */
  readonly outOfOrder: number
}

/** A service with bad days: for every tenth order it has no time at first, and some orders never work. */
function paymentService(): Charge {
  const tried = new Set<number>()
  return async (_customer, { id }) => {
    await new Promise((resolve) => setImmediate(resolve))
    if (HOPELESS.has(id)) throw new Error('the card was declined')
    const isFirst = !tried.has(id)
    tried.add(id)
    if (isFirst && id % 10 === 0) throw new Error('the payment service is busy')
  }
}

export async function run(orders: number): Promise<Result> {
  const cluster = await startTestCluster({ brokers: 1 })
  const shop = connect({ bootstrap: cluster.bootstrap })
  const workers = [1, 2].map(() => connect({ bootstrap: cluster.bootstrap }))
  try {
    for (const name of [Orders.name, Invoices.name, DEAD_LETTERS]) {
      await admin(shop).createTopic(name, { partitions: PARTITIONS })
    }
    const records = Array.from({ length: orders }, (_, id) => {
      return { key: `customer-${id % CUSTOMERS}`, value: { id, cents: 100 + id } }
    })
    await shop.producer(Orders).sendBatch(records)
    await shop.producer(Orders.name).send(Buffer.from('customer-1'), Buffer.from('this is no JSON'))

    const errors: unknown[] = []
    for (const mill of workers) work(mill, paymentService()).subscribe({ error: (error) => errors.push(error) })
    // Done is what the group has committed.
    while ((await committed(shop)) < orders + 1) {
      if (errors.length > 0) throw errors[0]
      await new Promise((resolve) => setTimeout(resolve, 50))
    }
    return { orders, ...(await readBack()) }
  } finally {
    for (const mill of [...workers, shop]) await mill.close()
    await cluster.stop()
  }

  async function readBack(): Promise<Omit<Result, 'orders'>> {
    const last = new Map<string, number>()
    const seen = new Set<number>()
    let outOfOrder = 0
    const invoices = shop.consumer().subscribe(Invoices, { from: 'earliest', until: 'end' })
    for await (const { key, value } of invoices) {
      if (key === null || value === null) continue
      // At least once: what a worker did ahead of its commit is done again by the one that its partition goes to.
      if (!seen.has(value.order) && value.order < (last.get(key) ?? -1)) outOfOrder++
      seen.add(value.order)
      last.set(key, Math.max(value.order, last.get(key) ?? -1))
    }
    const reasons = new Map<string, string>()
    for await (const record of shop.consumer().subscribe(DEAD_LETTERS, { from: 'earliest', until: 'end' })) {
      const letter = deadLetterOf(record)
      reasons.set(`${letter?.partition}/${letter?.offset}`, letter?.errorMessage ?? 'without a reason')
    }
    return { invoiced: seen.size, deadLetters: [...reasons.values()], outOfOrder }
  }
}

type Shop = ReturnType<typeof connect>

/** How many records the group is done with. */
async function committed(mill: Shop): Promise<number> {
  try {
    const { partitions } = await admin(mill).describeGroup(GROUP)
    return partitions.reduce((sum, { committedOffset }) => sum + (committedOffset ?? 0), 0)
  } catch (error) {
    // No worker has joined it yet.
    if (MillraceError.is(error) && error.code === 'ERR_MILLRACE_UNKNOWN_GROUP') return 0
    throw error
  }
}

async function main(): Promise<void> {
  const { values } = parseArgs({ options: { orders: { type: 'string' }, json: { type: 'boolean' } } })
  const result = await run(Number(values.orders ?? 2_000))
  const { orders, invoiced, deadLetters, outOfOrder } = result
  console.log(`${orders} orders: ${invoiced} invoiced, ${outOfOrder} out of order, ${deadLetters.length} dead letters:`)
  for (const reason of deadLetters) console.log(`  ${reason}`)
  if (values.json === true) console.log(JSON.stringify(result))
  process.exitCode = invoiced + deadLetters.length === orders + 1 && outOfOrder === 0 ? 0 : 1
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await main()
