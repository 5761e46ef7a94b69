// The ring environment keeps the contract: with memory registered and without, and by the ways of older kernels.
import { binding } from '@millrace/native'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createRingEnvironment, type RingEnvironmentOptions } from '#src/io/ring/ring-environment.js'
import { realSide } from '../contract/contract-side.js'
import { describeEnvironmentContract } from '../contract/environment-contract.js'
import { describeRing } from './ring-suite.js'

const logger = createConsoleLogger({ level: 'silent', format: 'text' })
const ALL = 0xffffffff
/** Set-up flags: SINGLE_ISSUER and DEFER_TASKRUN came with 6.1, NO_SQARRAY with 6.6, COOP_TASKRUN with 5.19. */
const BEFORE_6_1 = ALL & ~(4096 | 8192 | 65536)
const NONE = BEFORE_6_1 & ~(256 | 512)

/** An environment whose ring may use some set-up flags only, as if the kernel knew no others. */
function createWithFlags(options: RingEnvironmentOptions, allowedFlags: number) {
  const native = binding()
  const ringOpen = native.ringOpen
  native.ringOpen = (entries, completions) => ringOpen(entries, completions, allowedFlags >>> 0)
  try {
    return createRingEnvironment(options)
  } finally {
    native.ringOpen = ringOpen
  }
}

describeRing('contract', () => {
  for (const [name, registerBuffers, allowedFlags] of [
    ['ring', true, ALL],
    ['ring (unregistered memory)', false, ALL],
    ['ring (as on Linux 5.19)', true, BEFORE_6_1],
    ['ring (without any set-up flags)', true, NONE],
  ] as const) {
    describeEnvironmentContract(name, ({ memoryBytes }) =>
      realSide(() => createWithFlags({ memoryBytes, logger, registerBuffers }, allowedFlags)),
    )
  }
})
