// The environments broker tests run on: portable always, the ring where the probe says that it works.
import { probeRing } from '#src/io/ring/ring-probe.js'

function ringWorks(): boolean {
  try {
    return probeRing().ring.available
  } catch {
    // The native package is optional.
    return false
  }
}

export const ENVIRONMENTS: readonly ('portable' | 'ring')[] = ringWorks() ? ['portable', 'ring'] : ['portable']
