// Disk faults below real brokers on the portable environment.
import { describe } from 'vitest'
import { declareDiskFaults } from './disk-faults.js'
import { describeFaults } from './faults-suite.js'

await describeFaults(() => {
  describe('on the portable environment', () => declareDiskFaults('portable'))
})
