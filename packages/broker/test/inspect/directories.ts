// Data directories as real brokers leave them, ways to damage them, and the command run over them in this process.
import { createHash } from 'node:crypto'
import {
  closeSync,
  cpSync,
  fsyncSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readSync,
  rmSync,
  statSync,
  writeSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { crc32 } from '@millrace/protocol'
import { onTestFinished } from 'vitest'
import { runLogCommand } from '#src/inspect/log-command.js'
import type { VolumeReport } from '#src/inspect/reports.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { directoryHolder } from '#src/io/directory-lock.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { openReadOnlyVolume } from '#src/io/read-only-volume.js'
import { unpack } from '#src/io/unpack.js'
import { GROUP_KINDS, readEnvelope } from '#src/storage/group-envelope.js'
import { startTestCluster, type TestCluster } from '#src/testing.js'
import { batchOf } from '../server/batches.js'
import { RawClient } from '../server/raw-client.js'

export function scratch(): string {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-inspect-'))
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export interface Filling {
  /** Batches of each partition. */
  readonly batches?: number
  readonly valueBytes?: number
  readonly environment?: 'portable' | 'ring'
}

export interface Filled {
  readonly cluster: TestCluster
  readonly client: RawClient
  readonly topicId: number
  readonly directory: string
}

/** A running broker with a topic `orders` of two partitions, each with batches of three records. */
export async function runFilled({
  batches = 6,
  valueBytes = 100,
  environment = 'portable',
}: Filling = {}): Promise<Filled> {
  const directory = scratch()
  const cluster = await startTestCluster({ environment, dataDirectory: directory })
  onTestFinished(() => cluster.stop())
  const client = await RawClient.open(cluster.brokers[0]!.address)
  const topicId = await client.createTopic('orders', { partitions: 2 })
  for (let sequence = 0; sequence < batches; sequence++) {
    const list = Array.from({ length: 3 }, (_, i) => ({ value: `${sequence}.${i} `.padEnd(valueBytes, '.') }))
    const parts = [0, 1].map((partition) => batchOf(list, { topicId, partition, sequence }))
    const { results } = await client.produce(parts)
    if (results.some(({ code }) => code !== 0)) throw new Error('a batch was refused')
  }
  return { cluster, client, topicId, directory }
}

/** A directory of a broker that was stopped in order. */
export async function stopped(filling: Filling = {}): Promise<string> {
  const { cluster, directory } = await runFilled(filling)
  await cluster.stop()
  return directory
}

/** What a power cut would leave behind: the directory of a running broker, without its lock. */
export async function cutOff(filling: Filling = {}): Promise<string> {
  const { directory } = await runFilled(filling)
  const copy = scratch()
  cpSync(directory, copy, { recursive: true, filter: (path) => !path.endsWith('LOCK') })
  return copy
}

/** Changes one bit on the disk, also below a running broker: nothing else is written, and the size stays. */
export function flip(directory: string, slot: string, at: number): void {
  const file = openSync(join(directory, slot), 'r+')
  const byte = new Uint8Array(1)
  readSync(file, byte, 0, 1, at)
  byte[0]! ^= 0x10
  writeSync(file, byte, 0, 1, at)
  fsyncSync(file)
  closeSync(file)
}

/** Writes one value over a stretch of a file that is there. */
export function fill(directory: string, name: string, at: number, length: number, value: number): void {
  const file = openSync(join(directory, name), 'r+')
  writeSync(file, new Uint8Array(length).fill(value), 0, length, at)
  closeSync(file)
}

export interface FoundEnvelope {
  readonly slot: string
  readonly at: number
  readonly envelope: NonNullable<ReturnType<typeof readEnvelope>>
}

/** Every group of a partition of the topic `orders`, in the order of the log. */
export function groupsOf(directory: string, partition: number, topicId = 1): FoundEnvelope[] {
  const found: FoundEnvelope[] = []
  for (const slot of readdirSync(directory).filter((name) => name.startsWith('slot-'))) {
    const bytes = readFileSync(join(directory, slot))
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.length)
    for (let at = 4 * 4096; at + 96 <= bytes.length; at += 4096) {
      const envelope = readEnvelope(bytes, view, at, crc32)
      if (envelope?.key.topicId === topicId && envelope.key.partition === partition) found.push({ slot, at, envelope })
    }
  }
  return found.sort((a, b) => a.envelope.position - b.envelope.position)
}

/** The group of a partition of the topic `orders` that begins with a record: behind a batch of a term, which has none. */
export function groupAt(directory: string, partition: number, offset: number): FoundEnvelope {
  const found = groupsOf(directory, partition).findLast(
    ({ envelope: { kind, firstOffset } }) => kind === GROUP_KINDS.batches && firstOffset === offset,
  )
  if (found === undefined) throw new Error(`no group begins with offset ${offset}`)
  return found
}

export interface Answer {
  /** The exit code, or the error that ended the command. */
  readonly code: number | Error
  readonly text: string
  readonly report: VolumeReport & { readonly damaged: boolean }
}

/** Runs the command as `main.ts` does. The report is that of `--json`. */
export async function log(...args: string[]): Promise<Answer> {
  const logger = createConsoleLogger({ level: 'silent', format: 'text' })
  const environment = createPortableEnvironment({ memoryBytes: 64 * 1024 * 1024, logger })
  const { memory, clock } = environment
  let text = ''
  try {
    const code = await runLogCommand(args, {
      memory,
      clock,
      unpack,
      openVolume: (directory) => openReadOnlyVolume(directory, memory),
      holderOf: directoryHolder,
      print: (words) => {
        text += words
      },
      showProgress: null,
    }).catch((cause: unknown) => cause as Error)
    if (memory.usedBytes !== 0) throw new Error(`${memory.usedBytes} bytes were not given back`)
    const json = text.trimEnd().split('\n').at(-1) ?? ''
    return { code, text, report: json.startsWith('{') ? JSON.parse(json) : null }
  } finally {
    await environment.close()
  }
}

/** Names, sizes, times and content of everything in a directory. */
export function fingerprint(directory: string): string {
  const hash = createHash('sha256')
  for (const name of readdirSync(directory).sort()) {
    const { size, mtimeMs, ctimeMs } = statSync(join(directory, name))
    hash.update(`${name} ${size} ${mtimeMs} ${ctimeMs}\n`).update(readFileSync(join(directory, name)))
  }
  return `${hash.digest('hex')} ${statSync(directory).mtimeMs}`
}
