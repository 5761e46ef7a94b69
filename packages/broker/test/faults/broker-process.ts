// A real broker in a process of its own, with its log and status at hand, and records whose acknowledgements are kept.
import { type ChildProcessByStdio, spawn } from 'node:child_process'
import { once } from 'node:events'
import type { Readable } from 'node:stream'
import { fileURLToPath } from 'node:url'
import { bytes, connect, type Mill, MillraceError, topic, utf8 } from '@millrace/client'
import { admin } from '@millrace/client/admin'
import { onTestFinished } from 'vitest'

const PROGRAM = fileURLToPath(new URL('../../bin/millrace-broker.js', import.meta.url))
const READY_MS = 60_000

export interface BrokerProcess {
  readonly address: string
  /** What it has logged. */
  log(): string
  /** Sends SIGTERM. @returns the exit code, or the signal that ended it. */
  stop(): Promise<number | string>
  /** As a crash does. */
  kill(): Promise<void>
}

interface Run {
  readonly child: ChildProcessByStdio<null, Readable, Readable>
  readonly output: { stdout: string; stderr: string }
  readonly ended: Promise<number | string>
}

function run(directory: string, environment: string): Run {
  const args = ['start', '--data', directory, '--environment', environment]
  args.push('--port', '0', '--memory', '128m', '--json', '--stop-timeout-ms', '2000')
  const child = spawn(process.execPath, [PROGRAM, ...args], { stdio: ['ignore', 'pipe', 'pipe'] })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', (chunk: Buffer) => {
    output.stdout += chunk.toString()
  })
  child.stderr.on('data', (chunk: Buffer) => {
    output.stderr += chunk.toString()
  })
  const ended = once(child, 'close').then(([code, signal]) => (code ?? signal) as number | string)
  onTestFinished(() => void child.kill('SIGKILL'))
  return { child, output, ended }
}

/** Starts a broker that is expected to come up. */
export async function startBroker(directory: string, environment: string): Promise<BrokerProcess> {
  const { child, output, ended } = run(directory, environment)
  const deadline = performance.now() + READY_MS
  while (!output.stdout.includes('\n')) {
    if (child.exitCode !== null || performance.now() > deadline) throw new Error(`not ready: ${output.stderr}`)
    await sleep(5)
  }
  const { port } = JSON.parse(output.stdout.split('\n')[0]!)
  return {
    address: `127.0.0.1:${port}`,
    log: () => output.stderr,
    stop() {
      child.kill('SIGTERM')
      return ended
    },
    async kill() {
      child.kill('SIGKILL')
      await ended
    },
  }
}

/** Starts a broker that is expected to refuse. @returns its exit code and what it said. */
export async function startRefused(directory: string, environment: string): Promise<{ code: unknown; words: string }> {
  const { child, output, ended } = run(directory, environment)
  const timer = setTimeout(() => child.kill('SIGKILL'), READY_MS)
  const code = await ended
  clearTimeout(timer)
  return { code, words: output.stderr }
}

export function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, ms))
}

/** Waits until `holds` does. */
export async function eventually(what: string, holds: () => boolean | Promise<boolean>, limitMs = 10_000) {
  const deadline = performance.now() + limitMs
  while (!(await holds())) {
    if (performance.now() > deadline) throw new Error(`not within ${limitMs} ms: ${what}`)
    await sleep(20)
  }
}

export const PARTITIONS = 4
const Records = topic('records', { key: utf8, value: bytes })
const DELIVERY_MS = 1_500

export interface StorageStatus {
  readonly failure: string | null
  readonly full: boolean
  readonly failedReads: number
  readonly flushMethod: string
  readonly direct: boolean
}

/** The client's side of a test: what was sent, and what of it was acknowledged where. */
export class Ledger {
  private readonly mills: Mill[] = []
  /** By partition and offset, the number of the record acknowledged there. */
  private readonly acknowledged = new Map<string, number>()
  /** Bytes of the value of each record ever sent. */
  private readonly sent: number[] = []
  private mill: Mill | null = null

  constructor() {
    onTestFinished(async () => {
      for (const mill of this.mills) await mill.close({ timeoutMs: 500 }).catch(() => {})
    })
  }

  get acknowledgedCount(): number {
    return this.acknowledged.size
  }

  /** A client of its own for each life of the broker. */
  async connectTo(broker: BrokerProcess): Promise<void> {
    await this.mill?.close({ timeoutMs: 500 }).catch(() => {})
    this.mill = connect({
      bootstrap: broker.address,
      retry: { initialMs: 20, maxMs: 100 },
      requestTimeoutMs: 10_000,
      logger: { info() {}, warn() {} },
    })
    this.mills.push(this.mill)
  }

  private client(): Mill {
    if (this.mill === null) throw new Error('connect first')
    return this.mill
  }

  async createTopic(durability: 'flushed' | 'buffered' = 'flushed'): Promise<void> {
    await admin(this.client()).createTopic(Records.name, { partitions: PARTITIONS, durability })
  }

  /** The code of the error with which another topic is refused; null when it is made. */
  async codeOfCreating(name: string): Promise<string | null> {
    return codeOf(admin(this.client()).createTopic(name, { partitions: 1 }))
  }

  async status(): Promise<StorageStatus> {
    const { storage } = await admin(this.client()).brokerStatus()
    return storage as StorageStatus
  }

  /**
   * Sends records of a size spread over all partitions, and notes which are acknowledged where.
   * @returns the codes of those that were not, one each.
   */
  async send(count: number, valueBytes: number, deliveryTimeoutMs = DELIVERY_MS): Promise<string[]> {
    const producer = this.client().producer(Records, { deliveryTimeoutMs, batchBytes: 64 * 1024 })
    const refusals: string[] = []
    const outcomes = []
    for (let i = 0; i < count; i++) {
      const number = this.sent.push(valueBytes) - 1
      await producer.ready()
      const outcome = producer
        .send(`key-${number}`, contentOf(number, valueBytes), { partition: number % PARTITIONS })
        .then(
          ({ partition, offset }) => void this.acknowledged.set(`${partition}/${offset}`, number),
          (error: unknown) => void refusals.push(codeIn(error)),
        )
      outcomes.push(outcome)
    }
    await Promise.all(outcomes)
    await producer.close({ timeoutMs: 100 }).catch(() => {})
    return refusals
  }

  /** Consumes partitions from the earliest record to the end. @throws what ends the subscription. */
  async consume(partitions?: readonly number[]): Promise<Map<string, number>> {
    const found = new Map<string, number>()
    const consumer = this.client().consumer()
    try {
      const options = { from: 'earliest', until: 'end', ...(partitions && { partitions }) } as const
      for await (const { partition, offset, key, value } of consumer.subscribe(Records, options)) {
        const number = Number(key?.slice(4))
        const expected = contentOf(number, this.sent[number] ?? -1)
        if (value === null || Buffer.compare(value, expected) !== 0) throw new Error(`record ${number} is not as sent`)
        found.set(`${partition}/${offset}`, number)
      }
    } finally {
      await consumer.close({ timeoutMs: 500 })
    }
    return found
  }

  /** Everything acknowledged, as it was sent, where it was acknowledged; nothing twice; no gap. */
  async verify(): Promise<void> {
    const found = await this.consume()
    for (const [place, number] of this.acknowledged) {
      if (found.get(place) !== number) throw new Error(`record ${number}, acknowledged at ${place}, is lost`)
    }
    if (new Set(found.values()).size !== found.size) throw new Error('a record is there twice')
    const ends = new Array<number>(PARTITIONS).fill(0)
    for (const place of found.keys()) ends[Number(place.split('/')[0])]!++
    for (const place of found.keys()) {
      const [partition, offset] = place.split('/').map(Number) as [number, number]
      if (offset >= ends[partition]!) throw new Error(`partition ${partition} has a gap below ${offset}`)
    }
  }

  /** The code of the error that ends reading; null when it ends well. */
  codeOfConsuming(partitions?: readonly number[]): Promise<string | null> {
    return codeOf(this.consume(partitions))
  }
}

async function codeOf(promise: Promise<unknown>): Promise<string | null> {
  try {
    await promise
    return null
  } catch (error) {
    return codeIn(error)
  }
}

/** The code of the refusal at the bottom of an error, such as the timeout of a delivery. */
function codeIn(error: unknown): string {
  let code = String(error)
  for (let cause = error; cause instanceof Error; cause = cause.cause) {
    if (cause instanceof MillraceError) code = cause.code
  }
  return code
}

/** A value that tells which record it belongs to, and cannot be mistaken for another. */
function contentOf(number: number, byteLength: number): Uint8Array {
  const value = Buffer.alloc(Math.max(8, byteLength), number % 251)
  value.writeUInt32LE(number, 0)
  value.writeUInt32LE(~number >>> 0, value.length - 4)
  return value
}
