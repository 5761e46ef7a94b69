// Complaints 10 and 25: what a client does to the process it runs in, when brokers die under it and when Node is a newer one.
import { once } from 'node:events'
import { type AddressInfo, createServer } from 'node:net'
import { admin } from '@millrace/client/admin'
import { describe, expect, onTestFinished, test } from 'vitest'
import { runModule } from '../support/programs.js'
import { clusterOfTest } from '../support/real-cluster.js'

const real = clusterOfTest()

/** What the program has loaded that is not JavaScript. */
const ADDONS = `process.report.getReport().sharedObjects.filter((path) => path.endsWith('.node'))`

async function newTopic(): Promise<string> {
  await real.start()
  return real.newTopic({ partitions: 3, durability: 'buffered' })
}

async function until(done: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await done())) await new Promise((resolve) => setTimeout(resolve, 10))
}

const recordsIn = async (name: string): Promise<number> =>
  (await admin(real.mill).describeTopic(name)).partitions.reduce((sum, { highWatermark }) => sum + highWatermark!, 0)

describe('complaint 10: a crash of native code takes the process where an error belongs', () => {
  test('a broker is killed under sends and subscriptions: typed errors, and the program ends by itself', async () => {
    const name = await newTopic()
    const ended = runModule(`
      import { connect, MillraceError } from '@millrace/client'
      const mill = connect({ bootstrap: '${real.cluster.bootstrap}', logger: { info() {}, warn() {} } })
      const statuses = new Set()
      mill.status$.subscribe(({ kind }) => statuses.add(kind))
      mill.consumer().subscribe('${name}', { from: 'earliest' }).subscribe()
      const producer = mill.producer('${name}', { deliveryTimeoutMs: 2_000 })
      let failure = null
      while (failure === null) await producer.send(null, Buffer.alloc(1_000)).catch((error) => (failure = error))
      const closed = await Promise.allSettled([mill.close({ timeoutMs: 100 })])
      const typed = [failure, closed[0].reason].map((error) => MillraceError.is(error))
      console.log(JSON.stringify({ typed, outcome: failure.outcome, lost: statuses.has('link-lost'), addons: ${ADDONS} }))`)
    await until(async () => (await recordsIn(name)) > 20)
    await real.cluster.kill(1)
    const { code, output } = await ended
    expect(code, output).toBe(0)
    expect(JSON.parse(output)).toMatchObject({ typed: [true, true], lost: true, addons: [] })
    expect(['failed', 'unknown']).toContain(JSON.parse(output).outcome)
  })

  test('what answers is no broker, and writes whatever it likes', async () => {
    const answers = [
      Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n'),
      Buffer.alloc(100_000, 0xff),
      Buffer.alloc(100_000),
      Buffer.from(Uint8Array.from({ length: 100_000 }, (_, i) => (i * 7919) >> (i % 5))),
    ]
    const ports: number[] = []
    for (const answer of answers) {
      const server = createServer((socket) => {
        // The client ends connections to such a server as it likes.
        socket.on('error', () => {}).on('data', () => socket.write(answer))
      })
      onTestFinished(() => void server.close())
      server.listen(0, '127.0.0.1')
      await once(server, 'listening')
      ports.push((server.address() as AddressInfo).port)
    }
    const { code, output } = await runModule(`
      import { connect } from '@millrace/client'
      const logger = { info() {}, warn() {} }
      const mills = ${JSON.stringify(ports)}.map((port) =>
        connect({ bootstrap: '127.0.0.1:' + port, connectTimeoutMs: 1_000, logger }))
      const ends = await Promise.allSettled(mills.map((mill) => mill.producer('t').send(null, Buffer.alloc(10))))
      console.log(ends.map(({ reason }) => reason?.code).join())
      await Promise.allSettled(mills.map((mill) => mill.close()))`)
    expect({ code, output }).toEqual({ code: 0, output: answers.map(() => 'ERR_MILLRACE_CONNECTION').join() })
  })

  test('threads with clients are ended in the middle of sends, and the process goes on', async () => {
    const name = await newTopic()
    const { code, output } = await runModule(`
      import { Worker } from 'node:worker_threads'
      const program = \`
        const imported = Promise.all([import('node:worker_threads'), import('@millrace/client')])
        imported.then(async ([{ parentPort }, { connect }]) => {
          const mill = connect({ bootstrap: '${real.cluster.bootstrap}' })
          const producer = mill.producer('${name}')
          mill.consumer().subscribe('${name}', { from: 'earliest' }).subscribe()
          await producer.send(null, Buffer.alloc(100))
          parentPort.postMessage('sends')
          for (;;) {
            await producer.ready()
            void producer.send(null, Buffer.alloc(100))
          }
        })\`
      const workers = Array.from({ length: 3 }, () => new Worker(program, { eval: true }))
      const codes = await Promise.all(workers.map(async (worker) => {
        await new Promise((resolve, reject) => worker.once('message', resolve).once('error', reject))
        return worker.terminate()
      }))
      console.log(codes.join(), ${ADDONS}.length)`)
    expect({ code, output }).toEqual({ code: 0, output: '1,1,1 0' })
    expect(await recordsIn(name)).toBeGreaterThanOrEqual(3)
  })
})

describe('complaint 25: abandoned while Node goes on', () => {
  test('nothing that Node is going to drop, no warning, and no loop of timers while nothing happens', async () => {
    const name = await newTopic()
    const { code, output } = await runModule(
      `
      import { createHook } from 'node:async_hooks'
      import { connect, processEach } from '@millrace/client'
      const warnings = []
      process.on('warning', (warning) => warnings.push(String(warning)))
      const mill = connect({ bootstrap: '${real.cluster.bootstrap}' })
      let done = 0
      const work = processEach(async () => done++, { concurrency: 4 })
      mill.consumer({ group: 'g' }).subscribe('${name}').pipe(work).subscribe()
      const producer = mill.producer('${name}', { codec: 'gzip' })
      for (let i = 0; i < 50; i++) await producer.send(Buffer.from('k' + i), Buffer.alloc(100))
      while (done < 50) await new Promise((resolve) => setTimeout(resolve, 10))
      let timers = 0
      createHook({ init: (id, type) => { if (type === 'Timeout') timers++ } }).enable()
      await new Promise((resolve) => setTimeout(resolve, 3_000))
      await mill.close()
      console.log(JSON.stringify({ warnings, timers }))`,
      '--throw-deprecation',
      '--pending-deprecation',
    )
    expect(code, output).toBe(0)
    const { warnings, timers } = JSON.parse(output) as { warnings: string[]; timers: number }
    expect(warnings).toEqual([])
    expect(timers).toBeGreaterThan(0)
    // A loop of one millisecond makes three thousand, and some hundreds on a machine with little time for it.
    expect(timers).toBeLessThan(100)
  })
})
