// Kernel, Node and memory, from facts that the entry file has gathered.
import type { DoctorFinding } from './findings.js'

/** Why something does not work; null: it works. */
export type Shortcoming = { readonly reason: string; readonly hint: string } | null

export interface MachineFacts {
  readonly platform: string
  readonly kernelRelease: string
  readonly nodeVersion: string
  readonly cores: number
  readonly memoryBytes: number
  /** Memory this process may use, where a container or service limits it. */
  readonly memoryLimitBytes: number | null
  /** Memory this process may lock; null for unlimited or unknown. */
  readonly lockedMemoryBytes: number | null
  readonly ring: Shortcoming
  readonly registeredMemory: Shortcoming
}

const MIB = 1024 * 1024
const COMFORTABLE_MEMORY_BYTES = 512 * MIB

export const inMebibytes = (bytes: number): string => `${Math.floor(bytes / MIB).toLocaleString('en-US')} MiB`

export function examineMachine(facts: MachineFacts): readonly DoctorFinding[] {
  const { platform, kernelRelease, nodeVersion, cores } = facts
  const system: DoctorFinding = {
    subject: 'system',
    state: 'good',
    finding: `${platform} ${kernelRelease}, Node ${nodeVersion}, ${cores} cores`,
    hint: null,
  }
  return [system, examineMemory(facts), examineRing(facts.ring), ...examineLockedMemory(facts)]
}

function examineMemory({ memoryBytes, memoryLimitBytes }: MachineFacts): DoctorFinding {
  const usable = Math.min(memoryBytes, memoryLimitBytes ?? memoryBytes)
  const limit = memoryLimitBytes !== null && memoryLimitBytes < memoryBytes
  const finding = limit
    ? `${inMebibytes(usable)} for this process, of ${inMebibytes(memoryBytes)} in the machine`
    : inMebibytes(usable)
  const enough = usable >= COMFORTABLE_MEMORY_BYTES
  return {
    subject: 'memory',
    state: enough ? 'good' : 'limited',
    finding,
    hint: enough ? null : 'give the broker 512 MiB or more, and tell it how much is for data with --memory',
  }
}

function examineRing(ring: Shortcoming): DoctorFinding {
  if (ring === null) return { subject: 'io_uring', state: 'good', finding: 'allowed and complete', hint: null }
  return {
    subject: 'io_uring',
    state: 'limited',
    finding: `not to be had: ${ring.reason}; the portable environment is used`,
    hint: ring.hint,
  }
}

function examineLockedMemory(facts: MachineFacts): readonly DoctorFinding[] {
  if (facts.ring !== null) return []
  const { registeredMemory, lockedMemoryBytes } = facts
  const limit = lockedMemoryBytes === null ? 'no limit' : `limit ${inMebibytes(lockedMemoryBytes)}`
  if (registeredMemory === null) {
    return [{ subject: 'locked memory', state: 'good', finding: `${limit}; buffers can be registered`, hint: null }]
  }
  const finding = `${limit}; buffers are not registered, disk I/O costs more CPU: ${registeredMemory.reason}`
  return [{ subject: 'locked memory', state: 'limited', finding, hint: registeredMemory.hint }]
}
