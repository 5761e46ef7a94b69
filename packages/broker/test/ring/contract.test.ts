// The ring environment keeps the contract; where the kernel refuses rings, the refusal has a reason instead.
import { expect, it } from 'vitest'
import { createConsoleLogger } from '#src/io/console-logger.js'
import { createRingEnvironment } from '#src/io/ring/ring-environment.js'
import { probeRing } from '#src/io/ring/ring-probe.js'
import { realSide } from '../contract/contract-side.js'
import { describeEnvironmentContract } from '../contract/environment-contract.js'

const logger = createConsoleLogger({ level: 'silent', format: 'text' })
const { ring } = probeRing()

if (ring.available) {
  for (const registerBuffers of [true, false]) {
    describeEnvironmentContract(registerBuffers ? 'ring' : 'ring (unregistered memory)', ({ memoryBytes }) =>
      realSide(() => createRingEnvironment({ memoryBytes, logger, registerBuffers })),
    )
  }
} else {
  it(`passes by refusal: ${ring.reason}`, () => {
    expect(ring.reason).toMatch(/\w+/)
    expect(ring.hint).toMatch(/\w+/)
  })
}
