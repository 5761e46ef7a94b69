// Whether a broker can run on a ring on this machine, and if not why and what would change it.
import { type Finding, probeKernel } from '@millrace/native'

export type RingFinding = Finding

export interface RingProbe {
  readonly ring: RingFinding
  /** Without fixed buffers the ring works, and disk I/O costs more CPU. */
  readonly fixedBuffers: RingFinding
  /** The kernel's release, the limit on locked memory and how checksums are computed, for `doctor`. */
  readonly kernelRelease: string
  readonly lockedMemoryBytes: number | null
  readonly checksum: string | null
}

/** Tries, rather than looks up: kernels, limits and containers differ in too many ways. Takes milliseconds. */
export function probeRing(): RingProbe {
  const report = probeKernel()
  return {
    ring: report.ring,
    fixedBuffers: report.fixedBuffers,
    kernelRelease: report.release,
    lockedMemoryBytes: report.lockedMemoryBytes,
    checksum: report.checksum,
  }
}
