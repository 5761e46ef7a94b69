// What a side of the environment brings to the contract suite: itself, a place for files, and a peer that dials it.
import { mkdtemp, rm } from 'node:fs/promises'
import { connect } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
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
  /** Closes the environment and removes its files. */
  close(): Promise<void>
}

export type ContractSideFactory = (options: { readonly memoryBytes: number }) => Promise<ContractSide>

/** A side on the real machine: files under the system's temporary directory, peers on node:net. */
export async function realSide(create: () => Environment): Promise<ContractSide> {
  const root = await mkdtemp(join(process.env.MILLRACE_TEST_DIRECTORY ?? tmpdir(), 'millrace-contract-'))
  const environment = create()
  let directories = 0
  return {
    environment,
    host: '127.0.0.1',
    newDirectory: () => join(root, `volume-${directories++}`),
    dial: (port) => dialNet('127.0.0.1', port),
    async close() {
      await environment.close()
      await rm(root, { recursive: true, force: true })
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
