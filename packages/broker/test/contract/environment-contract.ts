// The contract of environment.ts as one suite: every side (ring, portable, simulated) must pass it unchanged.
import { describe } from 'vitest'
import type { ContractSideFactory } from './contract-side.js'
import { describeDatagramContract } from './datagram-contract.js'
import { describeDialContract } from './dial-contract.js'
import { describeDiskContract } from './disk-contract.js'
import { describeMemoryContract } from './memory-contract.js'
import { describeNetworkContract } from './network-contract.js'
import { describeTimeContract } from './time-contract.js'

export function describeEnvironmentContract(name: string, factory: ContractSideFactory): void {
  describe(`${name} environment`, () => {
    describeTimeContract(factory)
    describeMemoryContract(factory)
    describeDiskContract(factory)
    describeNetworkContract(factory)
    describeDialContract(factory)
    describeDatagramContract(factory)
  })
}
