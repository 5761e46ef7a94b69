// Blocks of a simulated process: poisoned when released, guarded while an operation uses them.
import { crc32 } from 'node:zlib'
import type { Block, Memory } from '#src/environment.js'

const SMALLEST_BYTES = 4096
const POISON = 0xdb
/** Released blocks of a size that wait before reuse, so that a late write into one is seen as such. */
const QUARANTINED = 4

/** Broken by the product: using memory it does not own. Named apart from its own assertions. */
export class MemoryMisuse extends Error {
  override readonly name = 'MemoryMisuse'
}

export class SimulatedBlock implements Block {
  readonly bytes: Uint8Array
  readonly view: DataView
  released = false
  /** Operations in flight that read or write these bytes. */
  uses = 0

  constructor(
    readonly owner: SimulatedMemory,
    readonly byteLength: number,
  ) {
    const buffer = new ArrayBuffer(byteLength)
    this.bytes = new Uint8Array(buffer)
    this.view = new DataView(buffer)
  }
}

/** The claim of one operation on a range of a block. */
export interface BlockUse {
  /** Ends the claim. @throws MemoryMisuse when bytes that had to stay unchanged did not. */
  end(): void
}

export class SimulatedMemory implements Memory {
  usedBytes = 0
  /** The most that was ever handed out at once. */
  peakBytes = 0
  private readonly quarantine = new Map<number, SimulatedBlock[]>()

  /** @param onMisuse hears of every misuse, also where the product swallows the error that it gets. */
  constructor(
    readonly budgetBytes: number,
    private readonly onMisuse: (misuse: MemoryMisuse) => void,
  ) {}

  allocate(byteLength: number): Block | null {
    if (!(byteLength > 0)) throw this.misuse(`a block of ${byteLength} bytes was asked for`)
    const rounded = SMALLEST_BYTES * 2 ** Math.max(0, Math.ceil(Math.log2(byteLength / SMALLEST_BYTES)))
    if (this.usedBytes + rounded > this.budgetBytes) return null
    this.usedBytes += rounded
    this.peakBytes = Math.max(this.peakBytes, this.usedBytes)
    const waiting = this.quarantine.get(rounded)
    if (waiting === undefined || waiting.length <= QUARANTINED) {
      const block = new SimulatedBlock(this, rounded)
      block.bytes.fill(POISON)
      return block
    }
    const block = waiting.shift()!
    this.mustBePoison(block)
    block.released = false
    return block
  }

  release(block: Block): void {
    const mine = this.mine(block)
    if (mine.uses > 0) throw this.misuse('a block was released while an operation in flight uses it')
    mine.released = true
    mine.bytes.fill(POISON)
    this.usedBytes -= mine.byteLength
    const waiting = this.quarantine.get(mine.byteLength)
    if (waiting === undefined) this.quarantine.set(mine.byteLength, [mine])
    else waiting.push(mine)
  }

  checksum(block: Block, offset: number, length: number, seed: number): number {
    return crc32(this.range(block, offset, length), seed)
  }

  copyWithChecksum(
    target: Block,
    targetOffset: number,
    source: Block,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number {
    if (target === source && Math.abs(targetOffset - sourceOffset) < length) {
      throw this.misuse('a copy overlaps its source')
    }
    const copied = this.range(target, targetOffset, length)
    copied.set(this.range(source, sourceOffset, length))
    return crc32(copied, seed)
  }

  /** An operation that reads the range: the bytes must not change until it ends. */
  useUnchanged(block: Block, offset: number, length: number): BlockUse {
    const bytes = this.range(block, offset, length)
    const mine = this.mine(block)
    const before = crc32(bytes, 0)
    mine.uses++
    return {
      end: () => {
        mine.uses--
        if (crc32(bytes, 0) !== before) throw this.misuse('bytes changed while an operation in flight used them')
      },
    }
  }

  /** An operation that will fill the range: until then it holds nothing a reader could mistake for data. */
  useForFilling(block: Block, offset: number, length: number): BlockUse {
    const bytes = this.range(block, offset, length)
    const mine = this.mine(block)
    bytes.fill(POISON)
    mine.uses++
    return {
      end() {
        mine.uses--
      },
    }
  }

  /** Looks at every block in quarantine: nothing may have been written into one. */
  check(): void {
    for (const blocks of this.quarantine.values()) for (const block of blocks) this.mustBePoison(block)
  }

  private misuse(message: string): MemoryMisuse {
    const misuse = new MemoryMisuse(message)
    this.onMisuse(misuse)
    return misuse
  }

  private range(block: Block, offset: number, length: number): Uint8Array {
    this.mine(block)
    if (offset < 0 || length < 0 || offset + length > block.byteLength) {
      throw this.misuse(`the range ${offset}+${length} is not inside a block of ${block.byteLength} bytes`)
    }
    return block.bytes.subarray(offset, offset + length)
  }

  private mine(block: Block): SimulatedBlock {
    if (!(block instanceof SimulatedBlock) || block.owner !== this) {
      throw this.misuse('a block of somebody else was used')
    }
    if (block.released) throw this.misuse('a block was used after its release')
    return block
  }

  private mustBePoison(block: SimulatedBlock): void {
    for (let at = 0; at < block.byteLength; at += POISONED.byteLength) {
      const part = block.bytes.subarray(at, at + POISONED.byteLength)
      if (Buffer.compare(part, POISONED) !== 0) throw this.misuse('a block was written after its release')
    }
  }
}

const POISONED = new Uint8Array(SMALLEST_BYTES).fill(POISON)
