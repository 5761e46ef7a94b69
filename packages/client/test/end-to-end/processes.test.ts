// Programs as users write them, each a process of its own against a real broker: what they leave behind when they end, and
// how the client gets into them.
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { type AddressInfo, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { admin } from '@millrace/client/admin'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { PACKAGE, run, runModule } from '../support/programs.js'
import { clusterOfFile } from '../support/real-cluster.js'

const ESBUILD = fileURLToPath(new URL('../../../../node_modules/esbuild/bin/esbuild', import.meta.url))

const real = clusterOfFile()
let scratch: string

beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), 'millrace-processes-'))
})

afterAll(() => {
  rmSync(scratch, { recursive: true, force: true })
})

const newTopic = (): Promise<string> => real.newTopic({ partitions: 3, durability: 'buffered' })

async function recordsIn(name: string): Promise<number> {
  const { partitions } = await admin(real.mill).describeTopic(name)
  return partitions.reduce((sum, { highWatermark }) => sum + (highWatermark ?? 0), 0)
}

describe('complaint 13: no flush, unsent messages lost on exit', () => {
  const sends = (name: string, count: number): string => `
    import { connect } from '@millrace/client'
    const mill = connect({ bootstrap: '${real.cluster.bootstrap}' })
    const producer = mill.producer('${name}')
    for (let i = 0; i < ${count}; i++) void producer.send(Buffer.from('k' + i), Buffer.alloc(100))`

  test('close sends what was not awaited', async () => {
    const name = await newTopic()
    expect(await runModule(`${sends(name, 5_000)}; await mill.close()`)).toEqual({ code: 0, output: '' })
    expect(await recordsIn(name)).toBe(5_000)
  })

  test('so does a program that neither awaits nor closes anything, and it ends by itself', async () => {
    const name = await newTopic()
    expect(await runModule(sends(name, 2_000))).toEqual({ code: 0, output: '' })
    expect(await recordsIn(name)).toBe(2_000)
  })

  test('flush waits for all of them', async () => {
    const name = await newTopic()
    const source = `${sends(name, 3_000)}; await producer.flush(); process.kill(process.pid, 'SIGKILL')`
    expect((await runModule(source)).code).toBe(null)
    expect(await recordsIn(name)).toBe(3_000)
  })
})

describe('complaint 12: shutdown hangs, takes seconds, or keeps consuming', () => {
  /** Begins everything there is to wait for, closes, and counts what has come to an end; tells what holds the process. */
  const program = (bootstrap: string, name: string): string => `
    import { bytes, connect, processEach, toAsyncIterable, topic } from '@millrace/client'
    import { admin } from '@millrace/client/admin'
    const mill = connect({ bootstrap: '${bootstrap}', wait: true })
    const T = topic('${name}', { key: bytes, value: bytes })
    const unsettled = new Map()
    let made = 0
    const follow = (what, promise) => {
      unsettled.set(++made, what)
      const id = made
      promise.then(() => unsettled.delete(id), () => unsettled.delete(id))
    }
    const observe = (what, stream) => follow(what, new Promise((resolve, reject) => stream.subscribe({ error: reject, complete: resolve })))
    const producer = mill.producer(T)
    const consumer = mill.consumer()
    for (let i = 0; i < 500; i++) follow('send', producer.send(Buffer.from('k' + i), Buffer.alloc(100)))
    for (let i = 0; i < 20; i++) follow('sendBatch', producer.sendBatch([{ key: null, value: null }, { key: null, value: Buffer.alloc(9) }]))
    follow('send with a signal', producer.send(null, null, { signal: new AbortController().signal }))
    for (let i = 0; i < 20; i++) follow('ready', producer.ready())
    follow('flush', producer.flush())
    follow('mill.ready', mill.ready())
    follow('whereIs', mill.cluster.whereIs(T, Buffer.from('k')))
    follow('listTopics', admin(mill).listTopics())
    follow('describeTopic', admin(mill).describeTopic('${name}'))
    const loop = consumer.subscribe(T)[Symbol.asyncIterator]()
    for (let i = 0; i < 5; i++) follow('next', loop.next())
    const values = toAsyncIterable(consumer.subscribe(T))[Symbol.asyncIterator]()
    follow('next of a pipeline', values.next())
    observe('subscribe', consumer.subscribe(T))
    observe('processEach', consumer.subscribe(T, { from: 'earliest' }).pipe(processEach(() => new Promise(() => {}), { concurrency: 4 })))
    observe('status$', mill.status$)
    observe('map$', mill.cluster.map$)
    observe('failures$', producer.failures$)
    setTimeout(() => {
      const startMs = performance.now()
      follow('flush', producer.flush())
      follow('ready', producer.ready())
      follow('close', mill.close({ timeoutMs: 400 }))
      follow('producer.close', producer.close())
      follow('consumer.close', consumer.close())
      // It rejects where sends have failed, which is not what is counted here.
      void Promise.allSettled([mill.close()]).then(async () => {
        const closedMs = performance.now() - startMs
        // Node lets go of a socket whose connection was being made after the immediates of a turn: a whole turn is waited for.
        for (let i = 0; i < 2; i++) await new Promise((resolve) => setImmediate(resolve))
        // Standard output and error are pipes of the test's.
        const held = process.getActiveResourcesInfo().filter((name) => name !== 'PipeWrap' && name !== 'Immediate')
        console.log(JSON.stringify({ made, unsettled: [...unsettled.values()], held, closedMs }))
      })
    }, 300)`

  async function closes(bootstrap: string, name: string): Promise<void> {
    const { code, output } = await runModule(program(bootstrap, name))
    expect(code, output).toBe(0)
    const found = JSON.parse(output.split('\n').at(-1) ?? '') as { made: number; closedMs: number }
    expect(found).toMatchObject({ unsettled: [], held: [] })
    expect(found.made).toBeGreaterThan(560)
    expect(found.closedMs).toBeLessThan(5_000)
  }

  test('with a broker: no promise is left, no handle is left, and the process ends', async () => {
    await closes(real.cluster.bootstrap, await newTopic())
  })

  test('with nobody at the address', async () => {
    await closes('127.0.0.1:1', 'nowhere')
  })

  test('with somebody who accepts and never answers', async () => {
    const sockets = new Set<Socket>()
    const server: Server = createServer((socket) => {
      sockets.add(socket)
      socket.resume()
      socket.on('error', () => {}).on('close', () => sockets.delete(socket))
    })
    server.listen(0, '127.0.0.1')
    await once(server, 'listening')
    try {
      await closes(`127.0.0.1:${(server.address() as AddressInfo).port}`, 'nowhere')
      while (sockets.size > 0) await new Promise((resolve) => setTimeout(resolve, 5))
    } finally {
      server.close()
    }
  })
})

describe('complaint 11: cannot be bundled', () => {
  const source = (name: string): string => `
    import { bytes, connect, processEach, topic } from '@millrace/client'
    import { admin } from '@millrace/client/admin'
    async function main() {
      const mill = connect({ bootstrap: '${real.cluster.bootstrap}' })
      const T = topic('${name}', { key: bytes, value: bytes })
      await mill.producer(T, { codec: 'gzip' }).sendBatch(Array.from({ length: 100 }, () => ({ key: null, value: Buffer.alloc(50) })))
      let count = 0
      const stream = mill.consumer().subscribe(T, { from: 'earliest', until: 'end' }).pipe(processEach(async () => count++))
      await new Promise((complete, error) => stream.subscribe({ complete, error }))
      console.log(count, (await admin(mill).describeTopic('${name}')).partitions.length)
      await mill.close()
    }
    main()`

  async function bundle(format: 'esm' | 'cjs', name: string): Promise<{ file: string; meta: Meta }> {
    const folder = mkdtempSync(join(scratch, 'bundle-'))
    const file = join(folder, format === 'esm' ? 'bundle.mjs' : 'bundle.cjs')
    const meta = join(folder, 'meta.json')
    const options = ['--bundle', '--platform=node', '--target=node20', `--format=${format}`, '--log-level=warning']
    const built = await run([ESBUILD, ...options, `--outfile=${file}`, `--metafile=${meta}`], { input: source(name) })
    expect(built).toEqual({ code: 0, output: '' })
    return { file, meta: JSON.parse(readFileSync(meta, 'utf8')) as Meta }
  }

  interface Meta {
    readonly inputs: Readonly<Record<string, object>>
    readonly outputs: Readonly<Record<string, { readonly imports: readonly { readonly path: string }[] }>>
  }

  test.each(['esm', 'cjs'] as const)('esbuild makes one file of it that runs alone: %s', async (format) => {
    const name = await newTopic()
    const { file } = await bundle(format, name)
    expect(await run([file], { cwd: scratch })).toEqual({ code: 0, output: '100 3' })
  })

  test('complaint 9: no native code and nothing installed comes with it', async () => {
    const { meta } = await bundle('esm', 'none')
    const inputs = Object.keys(meta.inputs)
    expect(inputs.filter((path) => /\.node$|packages\/(native|broker)\//.test(path))).toEqual([])
    expect(inputs.length).toBeGreaterThan(50)
    const imports = new Set(Object.values(meta.outputs).flatMap((output) => output.imports.map(({ path }) => path)))
    // Sockets, names, compression, chance: no files, no package.json read at run time.
    expect([...imports].sort()).toEqual(['node:crypto', 'node:net', 'node:os', 'node:zlib'])
    for (const name of ['client', 'protocol']) {
      const manifest = JSON.parse(readFileSync(join(PACKAGE, '..', name, 'package.json'), 'utf8')) as Manifest
      expect(
        Object.keys(manifest.dependencies ?? {}).filter((dependency) => dependency !== '@millrace/protocol'),
      ).toEqual([])
      expect(manifest).not.toHaveProperty('optionalDependencies')
      expect(Object.keys(manifest.scripts ?? {}).filter((script) => /install|prepare/.test(script))).toEqual([])
    }
  })

  interface Manifest {
    readonly dependencies?: Readonly<Record<string, string>>
    readonly scripts?: Readonly<Record<string, string>>
  }
})

describe('complaint 22: ESM, or CommonJS, but not both', () => {
  test('import and require give one and the same module, without a warning', async () => {
    const required = `const { connect } = require('@millrace/client'), { admin } = require('@millrace/client/admin')
      import('@millrace/client').then((imported) => console.log(imported.connect === connect, typeof admin))`
    // Warnings are told of code outside of node_modules only; this one is loaded through its link there.
    const words = ['--disable-warning=ExperimentalWarning', '--input-type=commonjs', '-e', required]
    expect(await run(words)).toEqual({ code: 0, output: 'true function' })
    const source = `import { connect } from '@millrace/client'; console.log(typeof connect)`
    expect(await runModule(source)).toEqual({ code: 0, output: 'function' })
  })
})
