// One broker per data directory: a lock file that names its holder, and a safe way past the lock of a dead one.
import { createHash, randomBytes } from 'node:crypto'
import { link, readFile, rename, rm, unlink, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { DiskError } from '../environment.js'
import { diskErrorFrom, systemCode } from './portable/disk-errors.js'

export const LOCK_FILE_NAME = 'LOCK'
/** Takers of a lock whose taker died whose taker died: deeper than any real history of crashes within one takeover. */
const DEEPEST_TAKEOVER = 8
const ATTEMPTS = 100

export interface DirectoryLock {
  /** Gives the directory free. Harmless when repeated. */
  release(): Promise<void>
}

/** Who holds a lock. A process id alone is reused by the system; with start time and boot it names one process. */
interface Holder {
  readonly pid: number
  /** Clock ticks from boot to the start of the process; null where `/proc` does not tell. */
  readonly startTicks: string | null
  readonly bootId: string | null
  /** Makes the content of every lock file ever written different. */
  readonly nonce: string
}

/**
 * Locks a directory against other processes, and against a second lock in this one.
 *
 * The lock file appears with its content in one step (`link` of a finished file) or not at all. The content is flushed
 * before: a power cut that kept the name alone would leave a lock of which nobody can tell whose it was.
 *
 * Taking over the lock of a dead holder: whoever finds content X stale first takes a second lock, whose *name* is
 * derived from X, by the same procedure. Its holder alone may replace X, and does so only after reading X again:
 * A and B both find X stale; A locks X's takeover, replaces X by its own content, unlocks the takeover; B, delayed,
 * then locks the takeover too, but reads A's content instead of X and starts over, finding A alive. Contents are
 * unique, so X never comes back. A taker that dies on the way leaves a stale takeover lock, which is taken over alike.
 *
 * @throws DiskError LOCKED names the holder; other codes when the directory cannot be written.
 */
export async function acquireDirectoryLock(directory: string): Promise<DirectoryLock> {
  const path = join(directory, LOCK_FILE_NAME)
  const nonce = randomBytes(12).toString('hex')
  const holder: Holder = { pid: process.pid, ...(await identityOf(process.pid)), nonce }
  const mine = join(directory, `.${LOCK_FILE_NAME}.${nonce}`)
  try {
    await writeFile(mine, `${JSON.stringify(holder)}\n`, { mode: 0o600, flag: 'wx', flush: true })
    try {
      await acquire(directory, path, mine, 0)
    } finally {
      await rm(mine, { force: true })
    }
  } catch (cause) {
    throw diskErrorFrom(cause, `locking ${directory}`)
  }
  let released = false
  return {
    async release() {
      if (released) return
      released = true
      // Only the file of this very lock is removed: somebody may have deleted it by hand and started another broker.
      const current = await readIfThere(path)
      if (current !== null && parseHolder(current)?.nonce === nonce) await unlink(path)
    },
  }
}

/** Who uses a directory now, as the refusal to lock it; null when nobody does. Writes nothing. @throws DiskError. */
export async function directoryHolder(directory: string): Promise<DiskError | null> {
  const path = join(directory, LOCK_FILE_NAME)
  try {
    const found = await readIfThere(path)
    if (found === null) return null
    const holder = parseHolder(found)
    return holder === null || (await isAlive(holder)) ? lockedBy(directory, path, holder) : null
  } catch (cause) {
    throw diskErrorFrom(cause, `looking at the lock of ${directory}`)
  }
}

async function acquire(directory: string, path: string, mine: string, depth: number): Promise<void> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await linkUnlessThere(mine, path)) return
    const found = await readIfThere(path)
    if (found === null) continue
    const holder = parseHolder(found)
    if (holder === null || (await isAlive(holder)) || depth === DEEPEST_TAKEOVER)
      throw lockedBy(directory, path, holder)
    const takeover = `${join(directory, `.${LOCK_FILE_NAME}.takeover`)}.${digestOf(found)}`
    await acquire(directory, takeover, mine, depth + 1)
    try {
      if ((await readIfThere(path)) !== found) continue
      // A rename of one link onto another of the same file does nothing, so the replacement is a file of its own.
      const replacement = `${mine}.${depth}`
      await writeFile(replacement, await readFile(mine), { mode: 0o600, flush: true })
      await rename(replacement, path)
      return
    } finally {
      await unlink(takeover)
    }
  }
  throw new DiskError('LOCKED', `${directory}: other processes keep taking the lock; start one broker at a time`)
}

async function linkUnlessThere(from: string, to: string): Promise<boolean> {
  try {
    await link(from, to)
    return true
  } catch (cause) {
    if (systemCode(cause) === 'EEXIST') return false
    throw cause
  }
}

async function readIfThere(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch (cause) {
    if (systemCode(cause) === 'ENOENT') return null
    throw cause
  }
}

/** Null for content this module did not write: it is respected as a lock, since nothing shows that it is stale. */
function parseHolder(content: string): Holder | null {
  try {
    const value: unknown = JSON.parse(content)
    if (typeof value !== 'object' || value === null) return null
    const { pid, startTicks, bootId, nonce } = value as Record<string, unknown>
    if (typeof pid !== 'number' || !Number.isInteger(pid) || pid <= 0 || typeof nonce !== 'string') return null
    return {
      pid,
      startTicks: typeof startTicks === 'string' ? startTicks : null,
      bootId: typeof bootId === 'string' ? bootId : null,
      nonce,
    }
  } catch {
    return null
  }
}

async function isAlive(holder: Holder): Promise<boolean> {
  const now = await identityOf(holder.pid)
  if (holder.bootId !== null && now.bootId !== null && holder.bootId !== now.bootId) return false
  if (now.gone) return false
  return holder.startTicks === null || now.startTicks === null || holder.startTicks === now.startTicks
}

interface ProcessIdentity {
  readonly startTicks: string | null
  readonly bootId: string | null
  readonly gone: boolean
}

async function identityOf(pid: number): Promise<ProcessIdentity> {
  const bootId = (await readProc('/proc/sys/kernel/random/boot_id'))?.trim() ?? null
  const status = await readProc(`/proc/${pid}/stat`)
  if (status === null) return { startTicks: null, bootId, gone: !canSignal(pid) }
  // The command, in parentheses, may hold spaces and parentheses itself; numbered fields begin after the last one.
  const fields = status.slice(status.lastIndexOf(')') + 2).split(' ')
  const state = fields[0]
  return { startTicks: fields[19] ?? null, bootId, gone: state === 'Z' || state === 'X' }
}

async function readProc(path: string): Promise<string | null> {
  try {
    return await readFile(path, 'utf8')
  } catch {
    // No /proc on this platform, or the process ended: `canSignal` tells which.
    return null
  }
}

function canSignal(pid: number): boolean {
  try {
    process.kill(pid, 0)
    return true
  } catch (cause) {
    return systemCode(cause) !== 'ESRCH'
  }
}

function digestOf(content: string): string {
  return createHash('sha256').update(content).digest('hex').slice(0, 24)
}

function lockedBy(directory: string, path: string, holder: Holder | null): DiskError {
  if (holder === null) {
    return new DiskError(
      'LOCKED',
      `${directory} has a lock file of unknown origin: make sure no broker uses the directory, then remove ${path}`,
    )
  }
  const who = holder.pid === process.pid ? `this process (${holder.pid})` : `process ${holder.pid}`
  return new DiskError('LOCKED', `${directory} is in use by ${who}: stop that broker or choose another data directory`)
}
