// Names what went wrong on the disk: system error codes become the few that the broker tells apart.
import { DiskError, type DiskErrorCode } from '../../environment.js'

const CODES: Readonly<Record<string, DiskErrorCode>> = {
  ENOENT: 'NOT_FOUND',
  EEXIST: 'EXISTS',
  ENOSPC: 'NO_SPACE',
  EDQUOT: 'NO_SPACE',
  EFBIG: 'NO_SPACE',
  EROFS: 'READ_ONLY',
  EACCES: 'PERMISSION',
  EPERM: 'PERMISSION',
  EIO: 'INPUT_OUTPUT',
  ENXIO: 'INPUT_OUTPUT',
  EBADF: 'CLOSED',
}

/** The system's code of an error thrown by `node:fs`, such as `ENOENT`; null for any other error. */
export function systemCode(cause: unknown): string | null {
  return cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : null
}

/** @param doing what was tried, as in "opening x": the start of the message. */
export function diskErrorFrom(cause: unknown, doing: string): DiskError {
  if (cause instanceof DiskError) return cause
  const code = systemCode(cause)
  const words = cause instanceof Error ? cause.message : String(cause)
  return new DiskError((code !== null && CODES[code]) || 'OTHER', `${doing} failed: ${words}`, { cause })
}
