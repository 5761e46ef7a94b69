// Errors of a simulated disk.
import { DiskError, type DiskErrorCode } from '#src/environment.js'

export function fault(code: DiskErrorCode, message: string): DiskError {
  return new DiskError(code, message)
}
