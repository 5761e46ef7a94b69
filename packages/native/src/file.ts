// Files outside of the ring: opening, locking, sizes, and what the file system is.
import { binding, type FileSystemFacts } from './binding.js'
import { checkAnswer, SystemError } from './errors.js'

/** @param flags as of open(2); O_CLOEXEC is added. @throws SystemError */
export function openFile(path: string, flags: number, mode = 0o600): number {
  return checkAnswer(`open ${path}`, binding().fileOpen(path, flags, mode))
}

/** Closes a file or socket. @throws SystemError: EIO may tell of a lost write. */
export function closeDescriptor(descriptor: number): void {
  checkAnswer('close', binding().descriptorClose(descriptor))
}

/** Locks an open file exclusively, until it is closed; false when somebody else holds the lock. @throws SystemError */
export function tryLockFile(descriptor: number): boolean {
  const answer = binding().fileLock(descriptor)
  if (answer === 0) return true
  const refused = new SystemError('fcntl', answer)
  if (refused.code === 'EAGAIN' || refused.code === 'EACCES') return false
  throw refused
}

/** @throws SystemError */
export function fileSystemOf(descriptor: number): FileSystemFacts {
  const answer = binding().fileSystem(descriptor)
  if (typeof answer === 'number') throw new SystemError('statfs', answer)
  return answer
}

/** Makes all completed writes of the file system of an open file durable, on a thread of the pool. @throws SystemError */
export async function syncFileSystem(descriptor: number): Promise<void> {
  const answer = await new Promise<number>((resolve) => binding().fileSystemSync(descriptor, resolve))
  checkAnswer('syncfs', answer)
}
