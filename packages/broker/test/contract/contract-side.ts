// What a side of the environment brings to the contract suite: itself, a place for files, and a peer that dials it.
import { mkdtemp, rm } from 'node:fs/promises'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Worker } from 'node:worker_threads'
import type { Environment } from '#src/environment.js'

/** The other end of a connection, independent of the side under test. */
export interface DialedPeer {
  write(bytes: Uint8Array): void
  onBytes(callback: (chunk: Uint8Array) => void): void
  /** Stops reading, so that the side under test feels back-pressure. */
  pause(): void
  resume(): void
  /** Orderly end after everything written. */
  end(): void
  /** Closes abruptly: the side under test sees a reset. */
  reset(): void
  /** Resolves when the connection is over, however it ended. */
  readonly closed: Promise<void>
}

export interface ContractSide {
  readonly environment: Environment
  /** The address to listen on. */
  readonly host: string
  /** A path on this side's disk where nothing exists yet. */
  newDirectory(): string
  /** Resolves when connected, rejects when refused. */
  dial(port: number): Promise<DialedPeer>
  /** An address that answers nothing at all to whoever dials it. */
  blackHole(): Promise<{ readonly host: string; readonly port: number }>
  /** Closes the environment and removes its files. */
  close(): Promise<void>
}

export type ContractSideFactory = (options: { readonly memoryBytes: number }) => Promise<ContractSide>

/** A side on the real machine: files under the system's temporary directory, peers on node:net. */
export async function realSide(create: () => Environment): Promise<ContractSide> {
  const root = await mkdtemp(join(process.env.MILLRACE_TEST_DIRECTORY ?? tmpdir(), 'millrace-contract-'))
  const environment = create()
  const holes: BlackHole[] = []
  let directories = 0
  return {
    environment,
    host: '127.0.0.1',
    newDirectory: () => join(root, `volume-${directories++}`),
    dial: (port) => dialNet('127.0.0.1', port),
    async blackHole() {
      const hole = await digBlackHole()
      holes.push(hole)
      return { host: '127.0.0.1', port: hole.port }
    },
    async close() {
      await environment.close()
      for (const hole of holes) await hole.close()
      await rm(root, { recursive: true, force: true })
    },
  }
}

interface BlackHole {
  readonly port: number
  close(): Promise<void>
}

/** Listens, and then blocks its thread for good: nobody takes what the kernel has accepted. */
const DEAF_LISTENER = `
const { createServer } = require('node:net')
const { parentPort } = require('node:worker_threads')
const server = createServer().listen({ host: '127.0.0.1', port: 0, backlog: 1 }, () => {
  parentPort.postMessage(server.address().port)
  setImmediate(() => Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0))
})`

/** A listener whose queue is full: the kernel drops what asks for more, as if the host were not there. */
async function digBlackHole(): Promise<BlackHole> {
  const worker = new Worker(DEAF_LISTENER, { eval: true })
  const port = await new Promise<number>((resolve, reject) => {
    worker.once('error', reject)
    worker.once('message', resolve)
  })
  const sockets: Socket[] = []
  for (let answered = true; answered && sockets.length < 64; ) {
    const socket = connect({ host: '127.0.0.1', port })
    socket.on('error', () => {})
    sockets.push(socket)
    answered = await new Promise<boolean>((resolve) => {
      const patience = setTimeout(() => resolve(false), 100)
      socket.once('connect', () => {
        clearTimeout(patience)
        resolve(true)
      })
    })
  }
  return {
    port,
    async close() {
      for (const socket of sockets) socket.destroy()
      await worker.terminate()
    },
  }
}

function dialNet(host: string, port: number): Promise<DialedPeer> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host, port, noDelay: true })
    const closed = new Promise<void>((done) => socket.once('close', () => done()))
    socket.once('error', reject)
    socket.once('connect', () => {
      socket.off('error', reject)
      // How it ended is for the side under test to say; this peer only notes that it did.
      socket.on('error', () => {})
      resolve({
        write: (bytes) => void socket.write(bytes),
        onBytes: (callback) => void socket.on('data', callback),
        pause: () => void socket.pause(),
        resume: () => void socket.resume(),
        end: () => void socket.end(),
        reset: () => void socket.resetAndDestroy(),
        closed,
      })
    })
  })
}
