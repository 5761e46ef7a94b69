// The frames of one slot that one read has pinned, seen as a stretch of the file.
import type { Memory } from '../environment.js'
import type { Frame, FrameSource } from '../memory/frame.js'
import type { PagePool } from '../memory/page-pool.js'
import type { Piece } from './read-selection.js'

export class FrameWindow {
  private readonly frames = new Map<number, Frame>()
  private readonly frameBytes: number

  /** @param readableBytes of the file; what lies beyond is not written yet. */
  constructor(
    private readonly pool: PagePool,
    private readonly memory: Memory,
    private readonly source: FrameSource,
    private readonly readableBytes: number,
  ) {
    this.frameBytes = pool.frameBytes
  }

  get pinnedFrames(): number {
    return this.frames.size
  }

  /** Frames that a stretch of the file touches. */
  static framesOf(frameBytes: number, from: number, to: number): number {
    return Math.floor((to - 1) / frameBytes) - Math.floor(from / frameBytes) + 1
  }

  /**
   * Pins what holds the bytes `from` to `to`; false when the file ends before. What was pinned stays so when it fails. The
   * page that the file ended in when it was loaded may be pinned twice for a moment: the reservation has one more for that.
   * @throws DiskError, ProtocolError.
   */
  async pin(from: number, to: number): Promise<boolean> {
    if (to > this.readableBytes) return false
    const loads: Promise<void>[] = []
    for (let number = Math.floor(from / this.frameBytes); number * this.frameBytes < to; number++) {
      const needed = Math.min(this.frameBytes, to - number * this.frameBytes)
      const held = this.frames.get(number)
      if (held !== undefined && held.validBytes >= needed) continue
      loads.push(this.pinOne(number, needed))
    }
    if (loads.length > 0) {
      // All have to settle, or a frame pinned after a failure would never be given back.
      const results = await Promise.allSettled(loads)
      for (const result of results) if (result.status === 'rejected') throw result.reason
    }
    return this.holds(from, to)
  }

  private async pinOne(number: number, needed: number): Promise<void> {
    const frame = await this.pool.pin(this.source, number, needed, this.readableBytes)
    // Held until then: when more of the page cannot be read, what was read of it is still to be sent.
    const held = this.frames.get(number)
    this.frames.set(number, frame)
    if (held !== undefined) this.pool.unpin(held)
  }

  private holds(from: number, to: number): boolean {
    for (let number = Math.floor(from / this.frameBytes); number * this.frameBytes < to; number++) {
      const needed = Math.min(this.frameBytes, to - number * this.frameBytes)
      const frame = this.frames.get(number)
      if (frame === undefined || frame.validBytes < needed) return false
    }
    return true
  }

  /** The pinned frame with this byte, and where the byte stands in it. */
  at(filePosition: number): { readonly frame: Frame; readonly offset: number } {
    const number = Math.floor(filePosition / this.frameBytes)
    return { frame: this.frames.get(number)!, offset: filePosition - number * this.frameBytes }
  }

  /** The pieces of a pinned stretch, in order. */
  pieces(from: number, to: number): Piece[] {
    const pieces: Piece[] = []
    for (let at = from; at < to; ) {
      const { frame, offset } = this.at(at)
      const length = Math.min(this.frameBytes - offset, to - at)
      pieces.push({ block: frame.block, offset, length })
      at += length
    }
    return pieces
  }

  copy(from: number, target: Uint8Array): void {
    let done = 0
    for (const { block, offset, length } of this.pieces(from, from + target.length)) {
      target.set(block.bytes.subarray(offset, offset + length), done)
      done += length
    }
  }

  checksum(from: number, to: number): number {
    let checksum = 0
    for (const { block, offset, length } of this.pieces(from, to)) {
      checksum = this.memory.checksum(block, offset, length, checksum)
    }
    return checksum
  }

  isVerified(from: number, to: number): boolean {
    for (let at = from; at < to; ) {
      const { frame, offset } = this.at(at)
      const length = Math.min(this.frameBytes - offset, to - at)
      if (!frame.verified.has(offset, offset + length)) return false
      at += length
    }
    return true
  }

  markVerified(from: number, to: number): void {
    for (let at = from; at < to; ) {
      const { frame, offset } = this.at(at)
      const length = Math.min(this.frameBytes - offset, to - at)
      frame.verified.add(offset, offset + length)
      at += length
    }
  }

  /** Gives back the frames that lie wholly before a position. */
  releaseBefore(filePosition: number): void {
    for (const [number, frame] of this.frames) {
      if ((number + 1) * this.frameBytes > filePosition) continue
      this.frames.delete(number)
      this.pool.unpin(frame)
    }
  }

  /** Gives back the frames that lie wholly behind a position. */
  releaseAfter(filePosition: number): void {
    for (const [number, frame] of this.frames) {
      if (number * this.frameBytes < filePosition) continue
      this.frames.delete(number)
      this.pool.unpin(frame)
    }
  }

  releaseAll(): void {
    for (const frame of this.frames.values()) this.pool.unpin(frame)
    this.frames.clear()
  }
}
