// File systems of the kernel that look like directories and keep no files: no place for data.
import { statfs } from 'node:fs/promises'
import { DiskError } from '../environment.js'
import { nearestDirectory } from './nearest-directory.js'

/** Magic numbers from statfs(2). */
const PSEUDO: Readonly<Record<number, string>> = {
  40864: 'proc',
  1650812274: 'sysfs',
  1667723888: 'cgroup2',
  2613483: 'cgroup',
  7377: 'devpts',
  1684170528: 'debugfs',
  1953653091: 'tracefs',
  1935894131: 'securityfs',
  3405662737: 'bpf',
  1634035564: 'pstore',
  1650812272: 'configfs',
  3730735588: 'efivarfs',
  1112100429: 'binfmt_misc',
  427819522: 'mqueue',
}

/**
 * To be asked before a data directory is made or opened: below some of these a `mkdir` with all its parents never
 * ends, since the parent is there and the kernel says of every child that its parent is not.
 * @throws DiskError READ_ONLY names the file system and what to do.
 */
export async function refusePseudoFileSystem(directory: string): Promise<void> {
  const { type } = await statfs(await nearestDirectory(directory))
  const name = PSEUDO[type]
  if (name === undefined) return
  throw new DiskError(
    'READ_ONLY',
    `${directory} is on ${name}, which belongs to the kernel and keeps no files: choose a directory on a disk`,
  )
}
