// The environment on io_uring: the default on Linux where the kernel and the container allow it.
import type { Environment, Logger } from '../../environment.js'
import { kernelBootId } from '../boot-id.js'
import { nodeCrypto } from '../node-crypto.js'
import { PortableClock, PortableRandom } from '../portable/portable-clock.js'
import { RingLoop } from './ring-loop.js'
import { RingMemory } from './ring-memory.js'
import { RingNetwork } from './ring-network.js'
import { RingDisk } from './ring-volume.js'
import { StreamBuffers } from './stream-buffers.js'

export interface RingEnvironmentOptions {
  /** Budget of `Memory`, in bytes. Taken from the system in chunks as it is used. */
  readonly memoryBytes: number
  readonly logger: Logger
  /** Whether memory is registered with the ring; where the kernel refuses it is not, in any case. Yes unless given. */
  readonly registerBuffers?: boolean
}

/** How long files and connections may take to close in order before what is in flight is cancelled. */
const GRACE_MS = 500

/** @throws where rings do not work: ask `probeRing` first. */
export function createRingEnvironment(options: RingEnvironmentOptions): Environment {
  const { logger } = options
  const loop = new RingLoop(logger)
  const { memory, buffers } = openMemory(loop, options)
  const disk = new RingDisk(loop, memory)
  const network = new RingNetwork({ loop, memory, buffers }, logger)
  let closing: Promise<void> | null = null

  async function closeOnce(): Promise<void> {
    const orderly = closeInOrder()
    await settledWithin(orderly, GRACE_MS)
    await loop.close()
    // What was left in flight has been told by now; a system that hangs altogether must not keep anybody waiting.
    await settledWithin(orderly, GRACE_MS)
    memory.close()
    buffers.close()
  }

  async function closeInOrder(): Promise<void> {
    try {
      await network.close()
      await disk.close()
    } catch (cause) {
      logger.error({ cause }, 'the environment did not close in order')
    }
  }

  return {
    kind: 'ring',
    clock: new PortableClock(loop),
    random: new PortableRandom(),
    memory,
    disk,
    network,
    crypto: nodeCrypto,
    cores: { self: 0, count: 1 },
    log: logger,
    bootId: kernelBootId(),
    close() {
      closing ??= closeOnce()
      return closing
    },
  }
}

function openMemory(loop: RingLoop, options: RingEnvironmentOptions): { memory: RingMemory; buffers: StreamBuffers } {
  try {
    const register = options.registerBuffers ?? true
    return {
      memory: new RingMemory(options.memoryBytes, loop.ring, options.logger, register),
      buffers: new StreamBuffers(loop.ring),
    }
  } catch (cause) {
    loop.ring.close(0)
    throw cause
  }
}

/** Resolves when `work` has, or after `limitMs`. */
function settledWithin(work: Promise<void>, limitMs: number): Promise<void> {
  return new Promise((resolve) => {
    const limit = setTimeout(resolve, limitMs)
    void work.then(() => {
      clearTimeout(limit)
      resolve()
    })
  })
}
