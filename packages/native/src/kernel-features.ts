// What this machine allows, in words: whether rings work, and if not why and what would change it.
import { type LoadResult, loadBinding, type RawKernelFeatures } from './binding.js'
import { errnoName } from './errors.js'
import { SETUP_DEFER_TASKRUN } from './layout.js'

/** Something that works, or the reason why it does not and what would change that. */
export type Finding =
  | { readonly available: true }
  | { readonly available: false; readonly reason: string; readonly hint: string }

export interface KernelReport {
  /** Whether a broker can run on a ring here. */
  readonly ring: Finding
  /** Whether buffers can be registered; without, rings work and cost more CPU a byte. */
  readonly fixedBuffers: Finding
  /** Completions are worked off by the ring's own thread (Linux 6.1), the cheapest way. */
  readonly deferredTaskWork: boolean
  readonly release: string
  /** The limit of RLIMIT_MEMLOCK; null when there is none. */
  readonly lockedMemoryBytes: number | null
  /** How checksums are computed: `vpclmul`, `pclmul` or `table`; null without the addon. */
  readonly checksum: string | null
}

/** Tries everything a broker needs. Takes milliseconds; never throws. */
export function probeKernel(): KernelReport {
  return reportOf(loadBinding())
}

/** @internal The report for a given outcome of loading, so that tests can play refusals of other machines. */
export function reportOf(loaded: LoadResult): KernelReport {
  if (!loaded.loaded) {
    const missing: Finding = { available: false, reason: loaded.reason, hint: loaded.hint }
    return {
      ring: missing,
      fixedBuffers: missing,
      deferredTaskWork: false,
      release: '',
      lockedMemoryBytes: null,
      checksum: null,
    }
  }
  const raw = loaded.binding.kernelFeatures()
  return {
    ring: ringFinding(raw),
    fixedBuffers: fixedBufferFinding(raw),
    deferredTaskWork: ((raw.setupFlags ?? 0) & SETUP_DEFER_TASKRUN) !== 0,
    release: raw.release,
    lockedMemoryBytes: raw.lockedMemoryBytes < 0 ? null : raw.lockedMemoryBytes,
    checksum: raw.checksum,
  }
}

/** @internal */
export function ringFinding(raw: RawKernelFeatures): Finding {
  if (!raw.externalBuffers) {
    return refused(
      'this runtime forbids ArrayBuffers over native memory',
      'run the broker with plain Node, not Electron or a build with pointer compression',
    )
  }
  if (raw.setup !== null) return setupRefusal(raw, errnoName(raw.setup.errno), raw.setup.call)
  const missing = raw.missingOperations ?? []
  if (missing.length > 0) {
    return refused(`Linux ${raw.release} lacks io_uring operations: ${missing.join(', ')}`, NEWER_KERNEL)
  }
  const bufferRing = raw.bufferRing ?? 0
  if (bufferRing < 0) {
    return refused(`Linux ${raw.release} refuses provided-buffer rings (${errnoName(bufferRing)})`, NEWER_KERNEL)
  }
  return { available: true }
}

const NEWER_KERNEL = 'use Linux 5.19 or newer; 6.1 or newer is recommended'

function setupRefusal(raw: RawKernelFeatures, error: string, call: string): Finding {
  if (error === 'ENOSYS') {
    return refused(
      `Linux ${raw.release} has no io_uring (${call}: ENOSYS)`,
      `the kernel is built without it; ${NEWER_KERNEL}`,
    )
  }
  if (error === 'EPERM' && raw.disabledBySysctl !== null && raw.disabledBySysctl > 0) {
    return refused(
      `io_uring is switched off: kernel.io_uring_disabled is ${raw.disabledBySysctl}`,
      raw.disabledBySysctl === 1
        ? 'run the broker in the group of kernel.io_uring_group, or set kernel.io_uring_disabled=0'
        : 'set it to 0: sysctl kernel.io_uring_disabled=0',
    )
  }
  if (error === 'EPERM') {
    return refused(
      `${call} is refused (EPERM), most likely by a seccomp profile`,
      'allow io_uring_setup, io_uring_enter and io_uring_register in the container (Docker: --security-opt seccomp=<profile>)',
    )
  }
  if (error === 'ENOMEM') {
    return refused(
      `there is not enough lockable memory for a ring (ENOMEM, RLIMIT_MEMLOCK is ${raw.lockedMemoryBytes} bytes)`,
      'raise the limit: ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock in Docker',
    )
  }
  if (error === 'ENOTSUP') return refused(`the io_uring of Linux ${raw.release} is too old`, NEWER_KERNEL)
  return refused(`${call} failed (${error}) on Linux ${raw.release}`, NEWER_KERNEL)
}

/** @internal */
export function fixedBufferFinding(raw: RawKernelFeatures): Finding {
  const ring = ringFinding(raw)
  if (!ring.available) return ring
  const answer = raw.fixedBuffers ?? 0
  if (answer >= 0) return { available: true }
  if (errnoName(answer) === 'ENOMEM') {
    return refused(
      `memory cannot be registered (ENOMEM, RLIMIT_MEMLOCK is ${raw.lockedMemoryBytes} bytes)`,
      'raise the limit above the configured memory: ulimit -l, LimitMEMLOCK= in systemd, --ulimit memlock in Docker',
    )
  }
  return refused(`memory cannot be registered (${errnoName(answer)})`, NEWER_KERNEL)
}

function refused(reason: string, hint: string): Finding {
  return { available: false, reason, hint }
}
