// What `npm run runtimes` runs on each Node, from what is built: a broker of its own, the client, CommonJS. Ends by itself
// with 0 and a line of JSON, or fails.
import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createRequire } from 'node:module'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import * as zlib from 'node:zlib'

const require = createRequire(new URL('../packages/broker/package.json', import.meta.url))
const load = (name) => import(new URL(`file://${require.resolve(name)}`).href)
const { bytes, connect, processEach, topic } = await load('@millrace/client')
const { admin } = await load('@millrace/client/admin')
const { loadBinding } = await load('@millrace/native')

assert.equal(require('@millrace/client').connect, connect, 'CommonJS gets the same module')
assert.equal(require('@millrace/client/admin').admin, admin)
assert.equal(loadBinding().loaded, true, 'the addon loads')

const data = mkdtempSync(join(tmpdir(), 'smoke-'))
const program = require.resolve('@millrace/broker/package.json').replace('package.json', 'bin/millrace-broker.js')
const words = ['start', '--data', data, '--port', '0', '--json', '--log-level', 'warn']
const broker = spawn(process.execPath, [program, ...words], { stdio: ['ignore', 'pipe', 'inherit'] })
const ended = once(broker, 'close').then(([code]) => Promise.reject(new Error(`the broker ended with ${code}`)))
// Once it is ready, its end is asked for below, and judged there.
ended.catch(() => {})
const [line] = await Promise.race([once(createInterface(broker.stdout), 'line'), ended])
const { host, port, environment } = JSON.parse(line)
const codecs = []
try {
  const mill = connect({ bootstrap: `${host}:${port}` })
  const hasZstd = 'zstdCompressSync' in zlib
  for (const codec of ['none', 'gzip', 'zstd']) {
    const Records = topic(`smoke-${codec}`, { key: bytes, value: bytes })
    await admin(mill).createTopic(Records.name, { partitions: 4, codecs: ['none', 'gzip', 'zstd'] })
    if (codec === 'zstd' && !hasZstd) {
      assert.throws(() => mill.producer(Records, { codec }), { code: 'ERR_MILLRACE_CODEC_UNAVAILABLE' })
      continue
    }
    const producer = mill.producer(Records, { codec })
    const value = Buffer.alloc(500, codec)
    const sent = Array.from({ length: 2_000 }, (_, i) => ({ key: Buffer.from(`k${i}`), value }))
    assert.equal((await producer.sendBatch(sent)).acknowledgedRecords, 2_000)
    let received = 0
    const stream = mill.consumer().subscribe(Records, { from: 'earliest', until: 'end' })
    const work = async (record) => {
      assert.deepEqual(Buffer.from(record.value), value)
      received++
    }
    await new Promise((resolve, reject) => {
      stream.pipe(processEach(work, { concurrency: 16 })).subscribe({ complete: resolve, error: reject })
    })
    assert.equal(received, 2_000)
    codecs.push(codec)
  }
  await mill.close()
} finally {
  const closed = once(broker, 'close')
  broker.kill('SIGTERM')
  const [code] = await closed
  rmSync(data, { recursive: true, force: true })
  assert.equal(code, 0, 'the broker stops in good order')
}
console.log(JSON.stringify({ version: process.version, environment, codecs }))
