// The portable environment keeps the contract.
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createPortableEnvironment } from '#src/io/portable/portable-environment.js'
import { realSide } from '../contract/contract-side.js'
import { describeEnvironmentContract } from '../contract/environment-contract.js'

const logger = createConsoleLogger({ level: 'silent', format: 'text' })

describeEnvironmentContract('portable', ({ memoryBytes }) =>
  realSide(() => createPortableEnvironment({ memoryBytes, logger })),
)
