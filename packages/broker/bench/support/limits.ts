// The physical limits that results are held against, measured in the same run on the same machine.
import { fork } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { BLOCK_BYTES, type Block, type DiskFile, type Environment, type Volume } from '#src/environment.js'
import { chooseEnvironment } from '#src/io/choose-environment.js'
import { createConsoleLogger } from '#src/io/console-logger.js'
import type { Preference } from './broker-under-test.js'

export interface Limit {
  readonly name: string
  /** Megabytes (10^6) a second. */
  readonly mbPerSecond: number
}

const MEGABYTE = 1e6

/** One TCP connection over loopback between two processes, 1 MiB writes: bandwidth with nothing done to the bytes. */
export async function loopbackTcp(seconds: number): Promise<Limit> {
  const chunk = Buffer.alloc(1024 * 1024, 7)
  const server = createServer()
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  const address = server.address()
  if (address === null || typeof address === 'string') throw new Error('the loopback server has no port')
  const sink = fork(fileURLToPath(new URL('./tcp-sink.js', import.meta.url)), [String(address.port)])
  const [socket] = (await once(server, 'connection')) as [Socket]
  let taken = 0
  const began = performance.now()
  const end = began + seconds * 1000
  const pump = (): void => {
    while (performance.now() < end) {
      taken += chunk.length
      if (!socket.write(chunk)) return
    }
    socket.end()
  }
  socket.on('drain', pump)
  pump()
  await once(sink, 'exit')
  server.close()
  return { name: 'loopback TCP', mbPerSecond: taken / MEGABYTE / ((performance.now() - began) / 1000) }
}

const TEST_FILE_BYTES = 256 * 1024 * 1024
const FILL_BYTES = 1024 * 1024

async function writtenFile(environment: Environment, volume: Volume): Promise<{ file: DiskFile; block: Block }> {
  const file = await volume.open('limit', { create: true })
  await file.allocate(TEST_FILE_BYTES)
  const block = environment.memory.allocate(FILL_BYTES)
  if (block === null) throw new Error('no memory for the limit')
  block.bytes.fill(7)
  for (let at = 0; at < TEST_FILE_BYTES; at += FILL_BYTES) await file.write(at, block, 0, FILL_BYTES)
  await file.sync()
  return { file, block }
}

/**
 * What the disk gives to a bare loop: overwrite of written blocks, `groupBytes` a write, a flush after each group
 * (`flushed`) or none. `inFlight` loops run at the same time: one unless told when flushed, otherwise four.
 */
export async function diskWrites(
  environment: Environment,
  directory: string,
  options: {
    readonly groupBytes: number
    readonly seconds: number
    readonly flushed: boolean
    readonly inFlight?: number
  },
): Promise<Limit> {
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  const { file, block } = await writtenFile(environment, volume)
  const size = Math.min(FILL_BYTES, Math.max(BLOCK_BYTES, Math.ceil(options.groupBytes / BLOCK_BYTES) * BLOCK_BYTES))
  const depth = options.inFlight ?? (options.flushed ? 1 : 4)
  const began = performance.now()
  const end = began + options.seconds * 1000
  let position = 0
  let written = 0
  const lane = async (): Promise<void> => {
    while (performance.now() < end) {
      const at = position
      position = (position + size) % (TEST_FILE_BYTES - FILL_BYTES)
      position -= position % BLOCK_BYTES
      await file.write(at, block, 0, size)
      if (options.flushed) await volume.flush([file])
      written += size
    }
  }
  await Promise.all(Array.from({ length: depth }, lane))
  const elapsed = (performance.now() - began) / 1000
  environment.memory.release(block)
  await file.close()
  await volume.remove('limit')
  await volume.close()
  const flushed = depth === 1 ? 'flushed one by one' : `flushed each, ${depth} at once`
  const name = options.flushed ? `disk, groups of this size ${flushed}` : 'disk, writes of this size'
  return { name, mbPerSecond: written / MEGABYTE / elapsed }
}

/** What the disk gives to a bare loop of direct reads one after the other in the file, `readBytes` each, four in flight. */
export async function diskReads(
  environment: Environment,
  directory: string,
  options: { readonly readBytes: number; readonly seconds: number },
): Promise<Limit> {
  const volume = await environment.disk.openVolume(directory, { requireDirect: false })
  const { file, block } = await writtenFile(environment, volume)
  environment.memory.release(block)
  const end = performance.now() + options.seconds * 1000
  const began = performance.now()
  let position = 0
  let taken = 0
  const lane = async (): Promise<void> => {
    const target = environment.memory.allocate(options.readBytes)
    if (target === null) throw new Error('no memory for the limit')
    while (performance.now() < end) {
      const at = position
      position = (position + options.readBytes) % (TEST_FILE_BYTES - options.readBytes)
      const read = await file.read(at - (at % BLOCK_BYTES), target, 0, options.readBytes)
      taken += read
    }
    environment.memory.release(target)
  }
  await Promise.all(Array.from({ length: 4 }, lane))
  const elapsed = (performance.now() - began) / 1000
  await file.close()
  await volume.remove('limit')
  await volume.close()
  return { name: `disk, sequential reads of ${options.readBytes} bytes`, mbPerSecond: taken / MEGABYTE / elapsed }
}

/** Runs a measurement of the disk on an environment and in a directory of its own. */
export async function onBareDisk<T>(
  prefer: Preference,
  work: (environment: Environment, directory: string) => Promise<T>,
): Promise<T> {
  const directory = mkdtempSync(join(tmpdir(), 'millrace-limit-'))
  const logger = createConsoleLogger({ level: 'error', format: 'text' })
  const environment = await chooseEnvironment({ prefer, memoryBytes: 64 * 1024 * 1024, logger })
  try {
    return await work(environment, directory)
  } finally {
    await environment.close()
    rmSync(directory, { recursive: true, force: true })
  }
}
