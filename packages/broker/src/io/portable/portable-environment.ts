// The environment on node:fs and node:net: works wherever Node does, one shard, no native code.
import type { Environment, Logger } from '../../environment.js'
import { kernelBootId } from '../boot-id.js'
import { nodeCrypto } from '../node-crypto.js'
import { BuddyMemory } from './buddy-memory.js'
import { PortableClock, PortableRandom } from './portable-clock.js'
import { PortableNetwork } from './portable-network.js'
import { PortableDisk } from './portable-volume.js'
import { Turn } from './turn.js'

export interface PortableEnvironmentOptions {
  /** Budget of `Memory`, in bytes. Taken from the system as it is used. */
  readonly memoryBytes: number
  readonly logger: Logger
}

export function createPortableEnvironment(options: PortableEnvironmentOptions): Environment {
  const turn = new Turn()
  const memory = new BuddyMemory(options.memoryBytes, options.logger)
  const disk = new PortableDisk(memory)
  const network = new PortableNetwork(turn, options.logger)
  return {
    kind: 'portable',
    clock: new PortableClock(turn),
    random: new PortableRandom(),
    memory,
    disk,
    network,
    crypto: nodeCrypto,
    cores: { self: 0, count: 1 },
    log: options.logger,
    bootId: kernelBootId(),
    async close() {
      await network.close()
      await disk.close()
    },
  }
}
