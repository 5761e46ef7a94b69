// One slot file of the volume, whoever owns it.
import type { DiskFile } from '../environment.js'

const NAME = /^slot-([0-9a-f]{8})$/

export function slotName(id: number): string {
  return `slot-${id.toString(16).padStart(8, '0')}`
}

/** The id in a file name, or null for a file that is no slot. */
export function slotIdOf(name: string): number | null {
  const match = NAME.exec(name)
  return match === null ? null : Number.parseInt(match[1]!, 16)
}

export class Slot {
  /** Whether the file's name may still be lost in a power failure. */
  needsDirectorySync = false

  constructor(
    readonly id: number,
    readonly byteLength: number,
    readonly file: DiskFile,
    /** Even while free, odd while owned. */
    public generation: number,
    /** Every block was written once: flushed by `Volume.flush`, otherwise by `DiskFile.sync`. */
    public writtenThrough: boolean,
  ) {}
}
