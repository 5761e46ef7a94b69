// The ring environment keeps the contract, with memory registered and without.
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createRingEnvironment } from '#src/io/ring/ring-environment.js'
import { realSide } from '../contract/contract-side.js'
import { describeEnvironmentContract } from '../contract/environment-contract.js'
import { describeRing } from './ring-suite.js'

const logger = createConsoleLogger({ level: 'silent', format: 'text' })

describeRing('contract', () => {
  for (const registerBuffers of [true, false]) {
    describeEnvironmentContract(registerBuffers ? 'ring' : 'ring (unregistered memory)', ({ memoryBytes }) =>
      realSide(() => createRingEnvironment({ memoryBytes, logger, registerBuffers })),
    )
  }
})
