// One open file of a portable volume: positional reads and writes through node:fs, direct where the volume is.
import assert from 'node:assert/strict'
import { fdatasync, read as fsRead, write as fsWrite } from 'node:fs'
import { type FileHandle, statfs } from 'node:fs/promises'
import { BLOCK_BYTES, type Block, DiskError, type DiskFile } from '../../environment.js'
import { diskErrorFrom } from './disk-errors.js'
import { OperationGate } from './operation-gate.js'

export class PortableFile implements DiskFile {
  private readonly gate: OperationGate
  private closing: Promise<void> | null = null

  constructor(
    readonly name: string,
    private readonly handle: FileHandle,
    private readonly directory: string,
    private readonly onClosed: (file: PortableFile) => void,
  ) {
    this.gate = new OperationGate(`file ${name}`)
  }

  /**
   * Node has no `fallocate`: the size is set and the free space is checked, which refuses a full disk but does not
   * reserve. Storage writes its slots through once before it counts on them, so the space is real by then.
   */
  allocate(byteLength: number): Promise<void> {
    return this.operation('allocating', async () => {
      const { size, blocks } = await this.handle.stat()
      if (byteLength <= size && blocks * 512 >= byteLength) return
      const { bavail, bsize } = await statfs(this.directory)
      const missing = byteLength - Math.min(byteLength, blocks * 512)
      if (missing > bavail * bsize) {
        throw new DiskError('NO_SPACE', `${this.name} needs ${missing} bytes and the file system has ${bavail * bsize}`)
      }
      if (byteLength > size) await this.handle.truncate(byteLength)
    })
  }

  write(position: number, block: Block, offset: number, length: number): Promise<void> {
    assertAligned(position, block, offset, length)
    return this.operation('writing', async () => {
      let done = 0
      while (done < length) {
        const written = await this.writeOnce(block.bytes, offset + done, length - done, position + done)
        // A short direct write may end inside a block; that block is written again, since a write must start on one.
        const whole = done + written === length ? written : written - (written % BLOCK_BYTES)
        if (whole === 0) throw new DiskError('INPUT_OUTPUT', `${this.name}: the system writes no further`)
        done += whole
      }
    })
  }

  read(position: number, block: Block, offset: number, length: number): Promise<number> {
    assertAligned(position, block, offset, length)
    return this.operation('reading', async () => {
      let done = 0
      while (done < length) {
        const count = await this.readOnce(block.bytes, offset + done, length - done, position + done)
        done += count
        if (count < BLOCK_BYTES) break
        // Whether the file ends inside a block that was cut, or the disk had a bad moment, another read of it tells.
        if (done < length) done -= done % BLOCK_BYTES
      }
      return done
    })
  }

  sync(): Promise<void> {
    return this.operation('flushing', () => this.syncOnce())
  }

  size(): Promise<number> {
    return this.operation('examining', async () => (await this.handle.stat()).size)
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private async closeOnce(): Promise<void> {
    await this.gate.close()
    this.onClosed(this)
    await this.handle.close()
  }

  private async operation<T>(doing: string, work: () => Promise<T>): Promise<T> {
    this.gate.enter()
    try {
      return await work()
    } catch (cause) {
      throw diskErrorFrom(cause, `${doing} ${this.name}`)
    } finally {
      this.gate.leave()
    }
  }

  private writeOnce(bytes: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fsWrite(this.handle.fd, bytes, offset, length, position, (error, written) =>
        error ? reject(error) : resolve(written),
      )
    })
  }

  private readOnce(bytes: Uint8Array, offset: number, length: number, position: number): Promise<number> {
    return new Promise((resolve, reject) => {
      fsRead(this.handle.fd, bytes, offset, length, position, (error, count) =>
        error ? reject(error) : resolve(count),
      )
    })
  }

  private syncOnce(): Promise<void> {
    return new Promise((resolve, reject) => {
      fdatasync(this.handle.fd, (error) => (error ? reject(error) : resolve()))
    })
  }
}

function assertAligned(position: number, block: Block, offset: number, length: number): void {
  assert(position >= 0 && position % BLOCK_BYTES === 0, 'a position is a multiple of the block size')
  assert(offset >= 0 && offset % BLOCK_BYTES === 0, 'an offset is a multiple of the block size')
  assert(length > 0 && length % BLOCK_BYTES === 0, 'a length is a multiple of the block size, above zero')
  assert(offset + length <= block.byteLength, 'a range lies inside its block')
}
