// The command as people run it: the real program as a child process, against a real broker.
import { type ChildProcessWithoutNullStreams, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { startTestCluster, type TestCluster } from '@millrace/broker/testing'
import { bytes, connect, type Mill, topic, utf8 } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace.js', import.meta.url))

// Each test starts several programs, on a machine that may have other work.
vi.setConfig({ testTimeout: 60_000 })

let cluster: TestCluster
/** Prepares what a test needs in this process: starting programs takes most of the time of these tests. */
let mill: Mill
let scratch = ''
let topics = 0

beforeAll(async () => {
  cluster = await startTestCluster()
  mill = connect({ bootstrap: cluster.bootstrap })
  scratch = mkdtempSync(join(tmpdir(), 'millrace-test-'))
})
afterAll(async () => {
  await mill.close()
  await cluster.stop()
  rmSync(scratch, { recursive: true, force: true })
})

interface Result {
  readonly code: number | null
  readonly stdout: string
  readonly stderr: string
}

function start(words: readonly string[], environment: NodeJS.ProcessEnv = {}): ChildProcessWithoutNullStreams {
  const env = { ...process.env, MILLRACE_BOOTSTRAP: cluster.bootstrap, ...environment }
  return spawn(process.execPath, [PROGRAM, ...words], { env })
}

/** Ends with the program; what it wrote is text. */
async function finish(child: ChildProcessWithoutNullStreams): Promise<Result> {
  let stdout = ''
  let stderr = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    stdout += text
  })
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text
  })
  const [code] = await once(child, 'close')
  return { code, stdout, stderr }
}

function run(words: string | readonly string[], input: string | Uint8Array = ''): Promise<Result> {
  const child = start(typeof words === 'string' ? words.split(' ') : words)
  child.stdin.on('error', () => {}).end(input)
  return finish(child)
}

async function newTopic(partitions = 1): Promise<string> {
  const name = `topic-${++topics}`
  await admin(mill).createTopic(name, { partitions })
  return name
}

async function sendLines(name: string, lines: readonly string[]): Promise<void> {
  const producer = mill.producer(topic(name, { key: bytes, value: utf8 }))
  await producer.sendBatch(lines.map((value) => ({ key: null, value })))
  await producer.close()
}

const jsonLines = (text: string): Record<string, unknown>[] =>
  text
    .trimEnd()
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line))

describe('millrace topic', () => {
  it('creates, lists, describes and deletes', async () => {
    expect(await run('topic create orders -p 3 --durability buffered --codecs none')).toEqual({
      code: 0,
      stdout: 'created orders with 3 partitions\n',
      stderr: '',
    })
    const listed = await run('topic list')
    expect(listed.stdout).toContain('orders\t3\tbuffered\tnone\n')
    const json = JSON.parse((await run('topic list --json')).stdout)
    expect(json.topics).toContainEqual({
      topicId: expect.any(Number),
      name: 'orders',
      partitions: 3,
      durability: 'buffered',
      codecs: ['none'],
      retentionMs: null,
      retentionBytes: null,
    })
    await sendLines('orders', ['one'])
    const described = JSON.parse((await run('topic describe orders --json')).stdout)
    expect(described).toMatchObject({ name: 'orders', durability: 'buffered' })
    const ends: number[] = described.partitions.map(({ highWatermark }: { highWatermark: number }) => highWatermark)
    expect(ends.sort()).toEqual([0, 0, 1])
    expect((await run('topic describe orders')).stdout).toMatch(
      /^0\t1\t0\t\d+\.0\t[-1]\t0\t0\t\d\t\d+\n1\t1\t0\t\d+\.0\t[-1]\t0\t0\t\d\t\d+\n2\t/,
    )

    const unsure = await run('topic delete orders')
    expect(unsure).toMatchObject({ code: 2, stdout: '' })
    expect(unsure.stderr).toContain('needs --yes')
    expect(await run('topic delete orders --yes')).toEqual({ code: 0, stdout: 'deleted orders\n', stderr: '' })
    expect((await run('topic list')).stdout).not.toContain('orders')
  })

  it('takes and shows what a topic keeps', async () => {
    expect(await run('topic create kept --retention 36h --retention-bytes 10g')).toMatchObject({ code: 0 })
    const described = JSON.parse((await run('topic describe kept --json')).stdout)
    expect(described).toMatchObject({ retentionMs: 129_600_000, retentionBytes: 10 * 2 ** 30 })
    const refused = await run('topic create kept2 --retention 7')
    expect(refused).toMatchObject({ code: 2, stdout: '' })
    expect(refused.stderr).toMatch(/needs a time like 30s/)
    await run('topic delete kept --yes')
  })

  it('tells what went wrong by its exit code', async () => {
    const name = await newTopic()
    const calls: readonly (readonly [words: string, code: number])[] = [
      [`topic create ${name}`, 4],
      ['topic describe nowhere', 3],
      ['topic delete nowhere --yes', 3],
      ['topic create ../etc/passwd', 2],
      ['topic create t -p 10001', 2],
      ['topic create t --codecs gzip', 2],
    ]
    const results = await Promise.all(calls.map(([words]) => run(words)))
    expect(results.map(({ code, stdout }) => ({ code, stdout }))).toEqual(
      calls.map(([, code]) => ({ code, stdout: '' })),
    )
  })
})

describe('millrace cluster', () => {
  const json = async (words: string, bootstrap: string) => {
    const { code, stdout } = await finish(start([...words.split(' '), '--json'], { MILLRACE_BOOTSTRAP: bootstrap }))
    return { code, said: JSON.parse(stdout) }
  }

  it('shows a cluster of one', async () => {
    expect((await run('cluster status')).stdout).toMatch(/^1\t127\.0\.0\.1:\d+\talive\t\d+(?:ms|s|m)\t0\t\d+\t-\t-\n$/)
    expect(await run('cluster health')).toEqual({ code: 0, stdout: 'healthy\n', stderr: '' })
    expect((await run('cluster members')).stdout).toMatch(
      /^1\t127\.0\.0\.1:\d+\t-\tactive\talive\t\d+(?:ms|s|m)\tyes\t\d+\t\d+\t0\n$/,
    )
  })

  it('says why something cannot be done to it', async () => {
    const name = await newTopic(2)
    const refusals = await Promise.all([
      run('broker drain 1'),
      run('broker remove 1 --force'),
      run('broker drain 7'),
      run(`partition move ${name} 0 --to 1,2`),
      run(`partition move ${name} 0 --cancel`),
      run(`topic alter ${name} -p 4`),
    ])
    const why = [
      'node 1 is the only active broker',
      'replicas: drain it first',
      'there is no node 7',
      'node 2 is no active broker of this cluster',
      'is not on its way',
      'order of their records breaks',
    ]
    for (const [at, { code, stderr }] of refusals.entries()) {
      expect(stderr).toContain(why[at])
      expect(code).toBe(2)
    }
    expect((await run(`partition move ${name} 0`)).code).toBe(2)
  })

  it('alters a topic', async () => {
    const name = await newTopic(2)
    expect(await run(`topic alter ${name} -p 3 --break-key-order --retention 7d`)).toMatchObject({
      code: 0,
      stdout: `${name} has 3 partitions\n`,
    })
    expect(await run(`topic alter ${name} --retention none`)).toMatchObject({ code: 0 })
    expect(await admin(mill).describeTopic(name)).toMatchObject({ retentionMs: null })
    expect((await run(`topic alter ${name}`)).code).toBe(2)
    expect((await run('partition moves')).stdout).toBe('')
  })

  it('tells health by its exit code', async () => {
    const three = await startTestCluster({ brokers: 3, environment: 'portable' })
    try {
      const { bootstrap } = three
      const created = ['topic', 'create', 'copied', '-p', '3', '-r', '3']
      expect(await finish(start(created, { MILLRACE_BOOTSTRAP: bootstrap }))).toMatchObject({ code: 0 })
      const described = await json('topic describe copied', bootstrap)
      expect(described.said.partitions.map(({ replicas }: { replicas: unknown[] }) => replicas.length)).toEqual([
        3, 3, 3,
      ])
      await vi.waitFor(async () => expect(await json('cluster health', bootstrap)).toMatchObject({ code: 0 }), 20_000)
      await three.kill(3)
      await vi.waitFor(async () => {
        const { code, said } = await json('cluster health', bootstrap)
        expect({ code, ...said }).toMatchObject({ code: 8, healthy: false, leaderless: 0 })
        expect(said.problems).toContainEqual(expect.stringMatching(/^node 3 has been dead for \d+(?:ms|s)$/))
      }, 20_000)
      const { code, said } = await json('cluster status', bootstrap)
      expect(code).toBe(0)
      expect(said.nodes.map(({ alive }: { alive: boolean }) => alive)).toEqual([true, true, false])
    } finally {
      await three.stop()
    }
  })
})

describe('millrace produce and consume', () => {
  it('carry lines with keys, in order', async () => {
    const name = await newTopic(4)
    const produced = await run(['produce', name, '-k', ':='], 'a:=one\nb:=two\na:=three := 3\n:=no name\nc:=')
    expect(produced).toEqual({ code: 0, stdout: '', stderr: '5 lines read, 5 acknowledged\n' })
    const consumed = await run(['consume', name, '--from', 'earliest', '--until', 'end', '-f', '%k=%v\\n'])
    expect(consumed).toMatchObject({ code: 0, stderr: '' })
    const lines = consumed.stdout.trimEnd().split('\n')
    expect([...lines].sort()).toEqual(['=no name', 'a=one', 'a=three := 3', 'b=two', 'c='])
    expect(lines.filter((line) => line.startsWith('a'))).toEqual(['a=one', 'a=three := 3'])
  })

  it('carry any bytes', async () => {
    const name = await newTopic()
    const value = Buffer.from([0, 255, 13, 128, 9, 34])
    expect(await run(['produce', name], Buffer.concat([value, Buffer.from('\n')]))).toMatchObject({ code: 0 })
    const child = start(['consume', name, '--from', '0', '-n', '1', '-f', '%v'])
    const chunks: Buffer[] = []
    child.stdout.on('data', (chunk: Buffer) => chunks.push(chunk))
    expect(await once(child, 'close')).toEqual([0, null])
    expect(Buffer.concat(chunks)).toEqual(value)
  })

  it('give JSON with --json and -o json', async () => {
    const name = await newTopic()
    const produced = await run(['produce', name, '-k', ':', '--json'], 'a:one\n')
    expect(JSON.parse(produced.stdout)).toEqual({ topic: name, sent: 1, acknowledged: 1, failed: 0, unknown: 0 })
    const words = `consume ${name} --from earliest --until end`
    const results = await Promise.all([run(`${words} --json`), run(`${words} -o json`)])
    for (const { stdout } of results) {
      expect(jsonLines(stdout)).toEqual([
        { topic: name, partition: 0, offset: 0, timestamp: expect.any(Number), key: 'a', value: 'one', headers: [] },
      ])
    }
  })

  it('read a file, compressed, and begin at an offset or a time', async () => {
    const name = await newTopic()
    const path = join(scratch, 'lines.txt')
    writeFileSync(path, Array.from({ length: 5_000 }, (_, at) => `line ${at}\n`).join(''))
    expect(await run(['produce', name, '--file', path, '--codec', 'gzip', '--acks', 'leader'])).toMatchObject({
      code: 0,
      stderr: '5000 lines read, 5000 acknowledged\n',
    })
    expect(await run(`consume ${name} --from 4998 --until end`)).toMatchObject({ stdout: 'line 4998\nline 4999\n' })
    const [first] = jsonLines((await run(`consume ${name} --from earliest -n 1 --json`)).stdout)
    const timestamp = Number(first?.timestamp)
    const iso = new Date(timestamp).toISOString()
    const tomorrow = new Date(timestamp + 86_400_000).toISOString()
    const starts = [`@${timestamp} -n 1`, `${iso} -n 1`, `${tomorrow} --until end`]
    const results = await Promise.all(starts.map((start) => run(`consume ${name} --from ${start}`)))
    expect(results.map(({ stdout }) => stdout)).toEqual(['line 0\n', 'line 0\n', ''])
  })

  it('follow what is sent from now on', async () => {
    const name = await newTopic()
    await sendLines(name, ['before'])
    const child = start(['consume', name, '-n', '1'])
    const following = finish(child)
    // The consumer begins at the end it finds when it opens; what comes after that has to come.
    const sending = setInterval(() => void sendLines(name, ['after']), 200)
    try {
      expect(await following).toEqual({ code: 0, stdout: 'after\n', stderr: '' })
    } finally {
      clearInterval(sending)
    }
  })

  it('fail for lines that are no records, and say which', async () => {
    const name = await newTopic()
    const others = Promise.all([
      run(['produce', name, '-k', ':'], 'nothing\n'),
      run('produce nowhere', 'a\n'),
      run(`produce ${name} --file ${join(scratch, 'nowhere')}`),
      run('consume nowhere'),
      run(`consume ${name} --from 99`),
    ])
    const some = await run(['produce', name, '-k', ':'], `a:1\nnothing\nb:2\n${'x'.repeat(70_000)}:3\n`)
    expect(some.code).toBe(7)
    expect(some.stderr).toContain('line 2: has no key separator')
    expect(some.stderr).toContain('line 4: ')
    expect(some.stderr).toContain('4 lines read, 2 acknowledged, 2 failed, 0 unknown')
    expect((await others).map(({ code }) => code)).toEqual([1, 3, 1, 3, 1])
  })
})

describe('back-pressure', () => {
  it('holds the consumer to the pace of the pipe, in bounded memory', async () => {
    const name = await newTopic()
    const line = `${'x'.repeat(999)}\n`
    const count = 100_000
    // Both programs stay below what passes through them.
    const producer = start(['produce', name], { NODE_OPTIONS: '--max-old-space-size=64' })
    const produced = finish(producer)
    for (let at = 0; at < count / 1_000; at++) {
      if (!producer.stdin.write(line.repeat(1_000))) await once(producer.stdin, 'drain')
    }
    producer.stdin.end()
    expect(await produced).toMatchObject({ code: 0, stderr: `${count} lines read, ${count} acknowledged\n` })

    const consumer = start(['consume', name, '--from', 'earliest', '--until', 'end'], {
      NODE_OPTIONS: '--max-old-space-size=64',
    })
    let bytes = 0
    consumer.stdout.once('readable', () => {
      // A reader that sleeps first: the consumer has to wait for it.
      setTimeout(() => {
        if (process.platform === 'linux') expect(residentBytes(consumer.pid)).toBeLessThan(200e6)
        consumer.stdout.on('data', (chunk: Buffer) => {
          bytes += chunk.length
        })
      }, 1_000)
    })
    expect(await once(consumer, 'close')).toEqual([0, null])
    expect(bytes).toBe(count * line.length)
  })

  it('ends quietly when the reader has seen enough', async () => {
    const name = await newTopic()
    await sendLines(name, new Array(50_000).fill('line'))
    const child = start(['consume', name, '--from', 'earliest'])
    let stderr = ''
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      stderr += text
    })
    child.stdout.once('data', () => child.stdout.destroy())
    expect(await once(child, 'close')).toEqual([0, null])
    expect(stderr).toBe('')
  })
})

function residentBytes(pid: number | undefined): number {
  return Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

describe('an interrupted command', () => {
  it('ends with 130: consume', async () => {
    const name = await newTopic()
    await sendLines(name, ['one'])
    const child = start(['consume', name, '--from', 'earliest'])
    await once(child.stdout, 'data')
    child.kill('SIGINT')
    expect(await once(child, 'close')).toEqual([130, null])
  })

  it('ends with 130, after what was read is sent: produce', async () => {
    const name = await newTopic()
    const child = start(['produce', name])
    child.stdin.write('one\ntwo\nhalf a li')
    expect(await run(`consume ${name} --from earliest -n 2`)).toMatchObject({ stdout: 'one\ntwo\n' })
    const finished = finish(child)
    child.kill('SIGINT')
    expect(await finished).toEqual({ code: 130, stdout: '', stderr: '2 lines read, 2 acknowledged\n' })
  })
})

describe('a wrong call', () => {
  const CALLS: readonly (readonly [words: string, code: number])[] = [
    ['', 0],
    ['consume --help', 0],
    ['version', 0],
    ['consume', 2],
    ['consume t --from sometime', 2],
    ['consume t -f %q', 2],
    ['consume t -f %v -o json', 2],
    ['produce t --codec zip', 2],
    ['produce t --bootstrap nonsense:port', 2],
  ]

  it('ends with 2 and says what is wrong', async () => {
    const results = await Promise.all(CALLS.map(([words]) => run(words === '' ? [] : words)))
    results.forEach(({ code, stdout, stderr }, at) => {
      const [words, expected] = CALLS[at]!
      expect({ words, code }).toEqual({ words, code: expected })
      if (expected === 0) expect(stderr).toBe('')
      else {
        expect(stdout).toBe('')
        expect(stderr).toMatch(/^millrace: .+\n/)
        expect(stderr).not.toContain('    at ')
      }
    })
  })

  it('is told in JSON when asked for', async () => {
    const { stderr } = await run('topic describe nowhere --json')
    expect(JSON.parse(stderr)).toEqual({
      error: { code: 'ERR_MILLRACE_UNKNOWN_TOPIC', message: expect.stringContaining('nowhere'), exitCode: 3 },
    })
    expect(JSON.parse((await run('version --json')).stdout)).toMatchObject({ node: process.versions.node })
  })

  it('says that nobody is there, with the address and what to do', async () => {
    const closed = createServer().listen(0, '127.0.0.1')
    await once(closed, 'listening')
    const { port } = closed.address() as { port: number }
    closed.close()
    await once(closed, 'close')
    const result = await run(`topic list --bootstrap localhost:${port}`)
    expect(result).toMatchObject({ code: 6, stdout: '' })
    expect(result.stderr).toContain(`localhost:${port}`)
    expect(result.stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})
