// Where a directory would be made: the nearest one above it that exists.
import { stat } from 'node:fs/promises'
import { dirname, resolve } from 'node:path'

/** `path`, or the nearest directory above it that exists. */
export async function nearestDirectory(path: string): Promise<string> {
  let candidate = resolve(path)
  while (dirname(candidate) !== candidate) {
    // Why it cannot be looked at is told by whoever goes on to make a directory there.
    const found = await stat(candidate).catch(() => null)
    if (found?.isDirectory() === true) return candidate
    candidate = dirname(candidate)
  }
  return candidate
}
