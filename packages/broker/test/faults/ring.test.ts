// Disk faults below real brokers on io_uring.
import { describe } from 'vitest'
import { describeRing } from '../ring/ring-suite.js'
import { declareDiskFaults } from './disk-faults.js'
import { describeFaults } from './faults-suite.js'

await describeFaults(() => {
  describe('on the ring environment', () => {
    describeRing('disk faults', () => declareDiskFaults('ring'))
  })
})
