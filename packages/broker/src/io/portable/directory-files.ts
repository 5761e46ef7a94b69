// What a broker does with the directory of a volume and the files in it, whatever way they are read and written.
import assert from 'node:assert/strict'
import { statSync } from 'node:fs'
import { mkdir, readdir, rm, stat, statfs } from 'node:fs/promises'
import { join, relative, resolve, sep } from 'node:path'
import type { DiskFile } from '../../environment.js'
import { LOCK_FILE_NAME } from '../directory-lock.js'
import { nearestDirectory } from '../nearest-directory.js'
import { refusePseudoFileSystem } from '../pseudo-file-system.js'
import { diskErrorFrom, systemCode } from './disk-errors.js'
import { HIDDEN_PREFIX, isTemporary, syncDirectoryOf } from './small-file.js'

/**
 * Makes a directory and its parents, one after the other, each durable before the next.
 * @throws DiskError READ_ONLY on a file system of the kernel's own; PERMISSION, NO_SPACE.
 */
export async function makeDirectory(directory: string): Promise<void> {
  try {
    await refusePseudoFileSystem(directory)
    let path = await nearestDirectory(directory)
    for (const name of relative(path, resolve(directory))
      .split(sep)
      .filter((part) => part !== '')) {
      path = join(path, name)
      await makeUnlessThere(path)
      await syncDirectoryOf(path)
    }
  } catch (cause) {
    throw diskErrorFrom(cause, `making the directory ${directory}`)
  }
}

async function makeUnlessThere(path: string): Promise<void> {
  try {
    await mkdir(path)
  } catch (cause) {
    // Another process may have made it since it was looked for.
    if (systemCode(cause) !== 'EEXIST' || !(await stat(path)).isDirectory()) throw cause
  }
}

/** A process that ended in the middle of replacing a small file leaves its temporary file behind. */
export async function removeLeftovers(directory: string): Promise<void> {
  for (const name of await readdir(directory)) {
    if (isTemporary(name)) await rm(join(directory, name), { force: true })
  }
}

/** Flushes each file; none is still being flushed when this settles. @throws DiskError */
export async function syncFiles(files: readonly DiskFile[]): Promise<void> {
  const results = await Promise.allSettled([...new Set(files)].map((file) => file.sync()))
  for (const result of results) if (result.status === 'rejected') throw result.reason
}

/** The files of a volume and their sizes, but for those that keep it. */
export async function listFiles(
  directory: string,
): Promise<readonly { readonly name: string; readonly byteLength: number }[]> {
  const entries = await readdir(directory, { withFileTypes: true })
  const names = entries.filter((entry) => entry.isFile() && isOurs(entry.name)).map(({ name }) => name)
  // Whoever starts a broker with thousands of slots has no use for their sizes.
  return names.map((name) => ({
    name,
    get byteLength() {
      return sizeOf(join(directory, name))
    },
  }))
}

/** @throws DiskError */
function sizeOf(path: string): number {
  try {
    return statSync(path).size
  } catch (cause) {
    throw diskErrorFrom(cause, `examining ${path}`)
  }
}

/** What `Volume.space` tells. */
export async function spaceOf(directory: string): Promise<{ readonly freeBytes: number; readonly totalBytes: number }> {
  const { bavail, blocks, bsize } = await statfs(directory)
  return { freeBytes: bavail * bsize, totalBytes: blocks * bsize }
}

function isOurs(name: string): boolean {
  return name !== LOCK_FILE_NAME && !name.startsWith(HIDDEN_PREFIX)
}

export function assertPlainName(name: string): void {
  assert(name !== '' && !name.includes('/') && !name.includes('\0') && isOurs(name), `"${name}" is a plain file name`)
}
