// Finds out how completed writes of a directory become durable at the least cost.
import { readFile } from 'node:fs/promises'
import type { FileSystemFacts } from '@millrace/native'
import type { FlushMethod } from '../../environment.js'

export interface FlushChoice {
  readonly method: FlushMethod
  /** Why it is not the cheapest method; null when it is. */
  readonly note: string | null
}

interface Mount {
  readonly device: string
  readonly type: string
  readonly options: readonly string[]
}

/**
 * ext4 and XFS answer the fdatasync of a file that has nothing to write with a flush of the device's cache, and nothing
 * else: that makes every completed direct write to extents written before durable, whichever file it went to. It holds
 * as long as barriers are on, data does not pass through the journal, and journal and data are on the same device.
 */
const NOT_BY_DEVICE: Readonly<Record<string, readonly (readonly [option: string, why: string])[]>> = {
  ext4: [
    ['nobarrier', 'the file system is mounted without barriers'],
    ['barrier=0', 'the file system is mounted without barriers'],
    ['data=journal', 'the file system writes data through its journal'],
    ['journal_dev=', 'the journal is on another device'],
    ['journal_path=', 'the journal is on another device'],
  ],
  xfs: [
    ['nobarrier', 'the file system is mounted without barriers'],
    ['logdev=', 'the log is on another device'],
    ['rtdev=', 'the file system has a real-time device'],
  ],
}

/**
 * File systems that another process or machine serves: the kernel passes fsync on to it, but not syncfs, which would
 * succeed whatever the server's disk says.
 */
const SERVED_ELSEWHERE = /^(fuse(blk)?(\..+)?|9p|nfs4?|cifs|smb3)$/

/** @param direct whether the volume's writes bypass the page cache: bytes still in it are not the device's. */
export async function chooseFlush(facts: FileSystemFacts, direct: boolean): Promise<FlushChoice> {
  return flushChoiceFor(await mountOf(facts), direct)
}

/** The decision for what `/proc/self/mountinfo` says of a device; null when it says nothing. */
export function flushChoiceFor(mount: Mount | null, direct: boolean): FlushChoice {
  if (mount === null) return bySyncfs('the mount of the directory is not known')
  if (SERVED_ELSEWHERE.test(mount.type)) {
    return { method: 'files', note: `flushed file by file: syncfs does not reach the server of ${mount.type}` }
  }
  const reasons = NOT_BY_DEVICE[mount.type]
  if (reasons === undefined) return bySyncfs(`a flush of the device is not known to suffice on ${mount.type}`)
  for (const [option, why] of reasons) {
    const hasValue = option.endsWith('=')
    if (mount.options.some((given) => given === option || (hasValue && given.startsWith(option)))) return bySyncfs(why)
  }
  if (!direct) return bySyncfs('writes are buffered')
  return { method: 'device', note: null }
}

function bySyncfs(why: string): FlushChoice {
  return { method: 'syncfs', note: `flushed by syncfs: ${why}` }
}

async function mountOf(facts: FileSystemFacts): Promise<Mount | null> {
  const device = `${facts.deviceMajor}:${facts.deviceMinor}`
  return mountsIn(await readFile('/proc/self/mountinfo', 'utf8')).find((mount) => mount.device === device) ?? null
}

/** Lines read "36 35 98:0 /root /mount options optional… - type source superOptions" (proc_pid_mountinfo(5)). */
export function mountsIn(mountinfo: string): readonly Mount[] {
  return mountinfo
    .split('\n')
    .filter((line) => line.includes(' - '))
    .map((line) => {
      const [before, after] = line.split(' - ', 2)
      const fields = before!.split(' ')
      const [type, , superOptions] = after!.split(' ')
      const options = `${fields[5] ?? ''},${superOptions ?? ''}`.split(',').filter((option) => option !== '')
      return { device: fields[2] ?? '', type: type ?? '', options }
    })
}
