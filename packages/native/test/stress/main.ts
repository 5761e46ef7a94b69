// Several threads, each with its own ring at work, that end in every way there is, again and again: what the sanitizers
// watch. `node packages/native/dist-dev/test/stress/main.js [--seconds N] [--seed N]`; ends with 0 when nothing was wrong.
import { fileURLToPath } from 'node:url'
import { parseArgs } from 'node:util'
import { isMainThread, Worker, workerData } from 'node:worker_threads'
import { probeKernel } from '@millrace/native'
import { type EndingKind, randomFrom, Workload, work } from './workload.js'

const THREADS = 4
const ENDINGS: readonly EndingKind[] = ['close', 'exit', 'throw', 'never']
const PLANTED = 'planted'
const MESSAGES = 20

interface Share {
  readonly seed: number
  readonly shared: Int32Array
  readonly ending: EndingKind
  readonly lifeMs: number
}

if (isMainThread) await main()
else {
  const { seed, shared, ending, lifeMs }: Share = workerData
  work(seed, shared, ending, lifeMs)
}

async function main(): Promise<void> {
  const options = { seconds: { type: 'string', default: '10' }, seed: { type: 'string', default: '1' } } as const
  const { values } = parseArgs({ options })
  const { ring } = probeKernel()
  if (!ring.available) {
    process.stdout.write(`${JSON.stringify({ name: 'native-stress', ok: true, refused: ring.reason })}\n`)
    return
  }
  const random = randomFrom(Number(values.seed))
  const shared = new Int32Array(new SharedArrayBuffer(64))
  const until = performance.now() + Number(values.seconds) * 1000
  const endings: Record<string, number> = {}
  let lives = 0
  const thread = async (): Promise<void> => {
    while (performance.now() < until) {
      const ending = ENDINGS[random(ENDINGS.length)]!
      await live({ seed: random(2 ** 31), shared, ending, lifeMs: 20 + random(300) })
      endings[ending] = (endings[ending] ?? 0) + 1
      lives++
    }
  }
  // The main thread has a ring too, and others come and go beside it.
  const own = new Workload(randomFrom(random(2 ** 31)), shared)
  await Promise.all(Array.from({ length: THREADS }, thread))
  const leaked = own.close()
  const ok = leaked === 0 && lives > 0
  const operations = Atomics.load(shared, 0)
  process.stdout.write(`${JSON.stringify({ name: 'native-stress', ok, lives, endings, operations })}\n`)
  process.exitCode = ok ? 0 : 1
}

/** The life of one thread, with messages to and fro, to its end. @throws what it died of, unless that was planned. */
function live(share: Share): Promise<void> {
  return new Promise((resolve, reject) => {
    const worker = new Worker(fileURLToPath(import.meta.url), { workerData: share })
    let answers = 0
    worker.on('message', () => {
      if (++answers < MESSAGES) worker.postMessage(answers)
    })
    worker.on('error', (error) => {
      if (!error.message.startsWith(PLANTED)) reject(error)
    })
    worker.on('exit', () => resolve())
    worker.on('online', () => {
      worker.postMessage(0)
      if (share.ending === 'never') setTimeout(() => void worker.terminate(), share.lifeMs)
    })
  })
}
