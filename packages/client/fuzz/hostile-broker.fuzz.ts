// Fuzzes a whole client from the wire: brokers that lie, stumble and babble. The client never throws into its
// environment, never hangs, sends nothing but well-formed frames, reports typed errors only, and leaves nothing behind.
import { MillraceError, processEach, type RecordStream } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { connectWith } from '@millrace/client/environment'
import { SeededRandom } from '@millrace/protocol'
import { HostileWorld } from './support/hostile-world.js'

export const name = 'hostile-broker'

export async function run({ seed, iterations }: { seed: number; iterations: number }): Promise<number> {
  const random = new SeededRandom(seed)
  for (let i = 0; i < iterations; i++) await converse(random, seed, i)
  return iterations
}

async function converse(random: SeededRandom, seed: number, iteration: number): Promise<void> {
  const world = new HostileWorld(random, 2 + random.below(30))
  const mill = connectWith(world.environment, {
    bootstrap: 'hostile',
    connectTimeoutMs: 3_000,
    requestTimeoutMs: 2_000,
  })
  const outcomes: Promise<unknown>[] = []
  const mustBeTyped = (error: unknown): void => {
    if (!MillraceError.is(error))
      throw new Error(`an error that is not typed, seed ${seed}, iteration ${iteration}`, { cause: error })
  }
  const watch = (promise: Promise<unknown>): void => {
    outcomes.push(promise.then(() => {}, mustBeTyped))
  }
  const failures: unknown[] = []
  const follow = (records: RecordStream<Uint8Array, Uint8Array>): void => {
    const observer = { error: (error: unknown) => failures.push(error) }
    if (random.oneIn(2)) records.subscribe(observer)
    else records.pipe(processEach(() => {}, { concurrency: 4 })).subscribe(observer)
  }
  const producer = mill.producer('fuzz', { deliveryTimeoutMs: 5_000, codec: random.oneIn(3) ? 'gzip' : 'none' })
  const until = random.oneIn(3) ? ({ timestamp: 5 } as const) : ('end' as const)
  follow(
    mill.consumer({ onDecodeError: 'skip' }).subscribe('fuzz', { from: 'earliest', ...(random.oneIn(2) && { until }) }),
  )
  for (let round = 2 + random.below(6); round > 0; round--) {
    for (let n = random.below(4); n > 0; n--)
      watch(producer.send(random.oneIn(2) ? null : random.bytes(4), random.bytes(20)))
    if (random.oneIn(6)) watch(admin(mill).listTopics())
    world.pass(random.oneIn(3) ? random.below(9_000) : random.below(50))
    for (const link of world.links) if (!link.closed && random.oneIn(2)) link.speak()
    world.drain()
    // Promises of the client itself need the microtask queue.
    if (random.oneIn(2)) await Promise.resolve()
  }
  const closing = mill.close({ timeoutMs: 0 }).then(
    () => true,
    (error) => {
      mustBeTyped(error)
      return true
    },
  )
  let closed = false
  for (let turn = 0; turn < 50 && !closed; turn++) {
    world.pass(1)
    closed = await Promise.race([closing, Promise.resolve(false)])
  }
  if (!closed) throw new Error('close did not end')
  failures.forEach(mustBeTyped)
  world.pass(60_000)
  if (world.links.some((link) => !link.closed)) throw new Error('a link was left open')
  if (world.pendingTimers > 0) throw new Error(`${world.pendingTimers} timers were left`)
  let settled = false
  void Promise.all(outcomes).then(() => {
    settled = true
  })
  for (let turn = 0; turn < 20 && !settled; turn++) await Promise.resolve()
  if (!settled) await Promise.all(outcomes.map((outcome) => mustSettle(outcome)))
}

/** A promise that is not settled by now never will be: nothing is left that could. */
async function mustSettle(outcome: Promise<unknown>): Promise<void> {
  const pending = Symbol('pending')
  const late = new Promise((resolve) => setImmediate(() => resolve(pending)))
  if ((await Promise.race([outcome, late])) === pending) throw new Error('a promise was never settled')
}
