// A page in memory as its readers see it.
import type { Block, DiskFile } from '../environment.js'
import { ByteRanges } from './byte-ranges.js'

/** A slot file while one log owns it. Generations of a slot only go up, so no page outlives its owner. */
export interface FrameSource {
  readonly file: DiskFile
  readonly byteLength: number
  readonly slotId: number
  readonly generation: number
}

export class Frame {
  /** Bytes whose checksums held since it was loaded. */
  readonly verified = new ByteRanges()

  constructor(
    /** Which frame of the pool. */
    readonly index: number,
    readonly block: Block,
    /** Bytes from the start that stood in the file when it was loaded. */
    readonly validBytes: number,
  ) {}
}
