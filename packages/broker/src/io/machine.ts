// What the machine says of itself: for defaults, and for `doctor`.
import { readFile, statfs } from 'node:fs/promises'
import { cpus, release, totalmem } from 'node:os'
import type { MachineFacts, Shortcoming } from '../doctor/examine-machine.js'

const MIB = 1024 * 1024

/** Magic numbers of file systems, from statfs(2). */
const FILE_SYSTEMS: Readonly<Record<number, string>> = {
  61267: 'ext4',
  1481003842: 'XFS',
  2435016766: 'btrfs',
  16914836: 'tmpfs',
  2035054128: 'overlayfs',
  26985: 'NFS',
  801189825: 'ZFS',
  4076150800: 'f2fs',
}

/** Memory this process may use where a container or service limits it; null without a limit. */
function memoryLimitBytes(): number | null {
  const limit = process.constrainedMemory()
  return limit > 0 && limit < totalmem() ? limit : null
}

/** An eighth of what this process may use, from 128 to 512 MiB: a broker beside other programs. */
export function defaultMemoryBytes(): number {
  const usable = memoryLimitBytes() ?? totalmem()
  return Math.floor(Math.min(512 * MIB, Math.max(128 * MIB, usable / 8)))
}

export async function machineFacts(): Promise<MachineFacts> {
  const { ring, registeredMemory } = await ringVerdict()
  return {
    platform: process.platform,
    kernelRelease: release(),
    nodeVersion: process.version,
    cores: cpus().length,
    memoryBytes: totalmem(),
    memoryLimitBytes: memoryLimitBytes(),
    lockedMemoryBytes: await lockedMemoryBytes(),
    ring,
    registeredMemory,
  }
}

/** Tries the ring; the package with the addon may be absent. */
async function ringVerdict(): Promise<{ readonly ring: Shortcoming; readonly registeredMemory: Shortcoming }> {
  try {
    const { probeRing } = await import('./ring/ring-probe.js')
    const { ring, fixedBuffers } = probeRing()
    return { ring: ring.available ? null : ring, registeredMemory: fixedBuffers.available ? null : fixedBuffers }
  } catch (cause) {
    const reason = `the native package cannot be loaded (${cause instanceof Error ? cause.message : String(cause)})`
    const hint = 'install @millrace/native, with g++, make and python3 present so that the addon can be built'
    return { ring: { reason, hint }, registeredMemory: null }
  }
}

/** Soft limit on locked memory; null when there is none, or where `/proc` does not tell. */
async function lockedMemoryBytes(): Promise<number | null> {
  try {
    const match = /^Max locked memory\s+(\d+)/m.exec(await readFile('/proc/self/limits', 'utf8'))
    return match === null ? null : Number(match[1])
  } catch {
    // No /proc: not Linux, where the limit means nothing to us.
    return null
  }
}

/** Name of the file system that holds `path`; null for one this table does not know. */
export async function fileSystemOf(path: string): Promise<string | null> {
  const { type } = await statfs(path)
  return FILE_SYSTEMS[type] ?? null
}
