// A small file system of its own for one broker's data, so that a disk can be full without harm to the machine.
import { spawnSync } from 'node:child_process'
import { closeSync, mkdirSync, openSync, rmSync, writeSync } from 'node:fs'
import { join } from 'node:path'

const SIZE = '640m'
const CHUNK = Buffer.alloc(1024 * 1024, 1)

export class SmallDisk {
  readonly dataDirectory: string
  private readonly filler: string

  private constructor(private readonly mountedOn: string) {
    this.dataDirectory = join(mountedOn, 'data')
    this.filler = join(mountedOn, 'filler')
  }

  /** Null where this user may not mount. */
  static mount(directory: string): SmallDisk | null {
    mkdirSync(directory, { recursive: true })
    const { status } = spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${SIZE},mode=0700`, 'millrace-faults', directory])
    return status === 0 ? new SmallDisk(directory) : null
  }

  /** Takes every byte that is left. */
  fill(): void {
    const descriptor = openSync(this.filler, 'w')
    try {
      while (writeSync(descriptor, CHUNK) > 0);
    } catch (error) {
      if (!(error instanceof Error && 'code' in error && error.code === 'ENOSPC')) throw error
    } finally {
      closeSync(descriptor)
    }
  }

  free(): void {
    rmSync(this.filler, { force: true })
  }

  /** Also while a process that does not end still uses it. */
  unmount(): void {
    spawnSync('umount', ['-l', this.mountedOn])
  }
}
