// One open file of a ring volume: reads and writes are operations of the ring, with fixed buffers where registered.
import assert from 'node:assert/strict'
import { fstatSync, ftruncateSync } from 'node:fs'
import { closeDescriptor, fileSystemOf, SystemError } from '@millrace/native'
import { BLOCK_BYTES, type Block, DiskError, type DiskFile } from '../../environment.js'
import { diskErrorFrom } from '../portable/disk-errors.js'
import { OperationGate } from '../portable/operation-gate.js'
import type { OperationTarget, RingLoop } from './ring-loop.js'
import type { RingBlock, RingMemory } from './ring-memory.js'

const EINTR = -4
const EAGAIN = -11
const ECANCELED = -125

/** An errno of the ring as the error the broker knows. Cancelled is what happens when the environment ends first. */
export function diskErrorOf(doing: string, answer: number): DiskError {
  const cause = new SystemError(doing, answer)
  if (answer === ECANCELED) {
    return new DiskError('CLOSED', `${doing} failed: the environment was closed meanwhile`, { cause })
  }
  return diskErrorFrom(cause, doing)
}

/** One read or write, however many submissions it takes. Objects are reused: their number is that of the most at once. */
class Transfer implements OperationTarget {
  private file!: RingFile
  private block!: RingBlock
  private offset = 0
  private position = 0
  private length = 0
  private done = 0
  private writes = false
  private resolve!: (bytes: number) => void
  private reject!: (error: DiskError) => void

  constructor(
    private readonly loop: RingLoop,
    private readonly pool: Transfer[],
  ) {}

  write(file: RingFile, position: number, block: RingBlock, offset: number, length: number): Promise<void> {
    return new Promise((resolve, reject) => {
      this.resolve = () => resolve()
      this.reject = reject
      this.start(file, true, position, block, offset, length)
    })
  }

  read(file: RingFile, position: number, block: RingBlock, offset: number, length: number): Promise<number> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve
      this.reject = reject
      this.start(file, false, position, block, offset, length)
    })
  }

  private start(
    file: RingFile,
    writes: boolean,
    position: number,
    block: RingBlock,
    offset: number,
    length: number,
  ): void {
    this.file = file
    this.writes = writes
    this.position = position
    this.block = block
    this.offset = offset
    this.length = length
    this.done = 0
    block.pins++
    this.submit()
  }

  onCompletion(result: number): void {
    if (result === EINTR || result === EAGAIN) {
      this.submit()
      return
    }
    if (result < 0) {
      this.finish(diskErrorOf(`${this.writes ? 'writing' : 'reading'} ${this.file.name}`, result))
      return
    }
    this.done += result
    if (this.writes) this.continueWriting(result)
    else if (this.done === this.length || result < BLOCK_BYTES) this.finish(null)
    else {
      // Whether the file ends inside a block that was cut, or the disk had a bad moment, another read of it tells.
      this.done -= this.done % BLOCK_BYTES
      this.submit()
    }
  }

  private continueWriting(written: number): void {
    if (this.done === this.length) {
      this.finish(null)
      return
    }
    // A short direct write may end inside a block; that block is written again, since a write must start on one.
    this.done -= this.done % BLOCK_BYTES
    if (written < BLOCK_BYTES) {
      this.finish(new DiskError('INPUT_OUTPUT', `${this.file.name}: the system writes no further`))
    } else this.submit()
  }

  private submit(): void {
    const { loop, block } = this
    const slot = loop.acquire(this)
    const address = block.address + this.offset + this.done
    const length = this.length - this.done
    const position = this.position + this.done
    const generation = loop.generation(slot)
    if (this.writes) {
      loop.ring.write(this.file.descriptor, address, length, position, block.bufferIndex, slot, generation)
    } else loop.ring.read(this.file.descriptor, address, length, position, block.bufferIndex, slot, generation)
  }

  private finish(error: DiskError | null): void {
    const { resolve, reject, done, file } = this
    this.block.pins--
    this.pool.push(this)
    file.gate.leave()
    if (error === null) resolve(done)
    else reject(error)
  }
}

/** What the files of one environment share. */
export class FileContext {
  private readonly transfers: Transfer[] = []

  constructor(
    readonly loop: RingLoop,
    readonly memory: RingMemory,
  ) {}

  transfer(): Transfer {
    return this.transfers.pop() ?? new Transfer(this.loop, this.transfers)
  }

  /** @throws DiskError with which the system may tell of a write that was lost. */
  closeDescriptor(descriptor: number, doing: string): void {
    // A file system that hangs may also hang in close(2), which would take this thread with it.
    if (this.loop.leaked) return
    try {
      closeDescriptor(descriptor)
    } catch (cause) {
      throw diskErrorFrom(cause, doing)
    }
  }

  /** fdatasync of an open file (or fsync `withMetadata`), as an operation of the ring. */
  async sync(descriptor: number, withMetadata: boolean, doing: string): Promise<void> {
    const { loop } = this
    const answer = await loop.call((slot, generation) => loop.ring.sync(descriptor, withMetadata, slot, generation))
    if (answer < 0) throw diskErrorOf(doing, answer)
  }
}

export class RingFile implements DiskFile {
  readonly gate: OperationGate
  private closing: Promise<void> | null = null

  constructor(
    readonly name: string,
    readonly descriptor: number,
    private readonly context: FileContext,
    private readonly onClosed: (file: RingFile) => void,
  ) {
    this.gate = new OperationGate(`file ${name}`)
  }

  allocate(byteLength: number): Promise<void> {
    assert(Number.isSafeInteger(byteLength) && byteLength > 0, 'a file is allocated to a length above zero')
    return this.operation('allocating', async () => {
      const { loop } = this.context
      const { size, blocks } = fstatSync(this.descriptor)
      // Asked first: a kernel that finds out on the way takes all free space from everybody for a moment.
      const missing = byteLength - Math.min(byteLength, blocks * 512)
      const { freeBytes } = fileSystemOf(this.descriptor)
      if (missing > freeBytes) {
        throw new DiskError('NO_SPACE', `${this.name} needs ${missing} bytes and the file system has ${freeBytes}`)
      }
      const answer = await loop.call((slot, generation) =>
        loop.ring.allocate(this.descriptor, 0, byteLength, slot, generation),
      )
      if (answer >= 0) return
      // What was reserved before the space ran out is given back: nothing has changed for the caller.
      if (fstatSync(this.descriptor).size > size) ftruncateSync(this.descriptor, size)
      throw diskErrorOf(`allocating ${this.name}`, answer)
    })
  }

  write(position: number, block: Block, offset: number, length: number): Promise<void> {
    const own = this.checked(position, block, offset, length)
    if (this.gate.isClosed) return Promise.reject(this.closedError())
    this.gate.enter()
    return this.context.transfer().write(this, position, own, offset, length)
  }

  read(position: number, block: Block, offset: number, length: number): Promise<number> {
    const own = this.checked(position, block, offset, length)
    if (this.gate.isClosed) return Promise.reject(this.closedError())
    this.gate.enter()
    return this.context.transfer().read(this, position, own, offset, length)
  }

  sync(): Promise<void> {
    return this.operation('flushing', () => this.context.sync(this.descriptor, false, `flushing ${this.name}`))
  }

  size(): Promise<number> {
    return this.operation('examining', async () => fstatSync(this.descriptor).size)
  }

  close(): Promise<void> {
    this.closing ??= this.closeOnce()
    return this.closing
  }

  private checked(position: number, block: Block, offset: number, length: number): RingBlock {
    assertAligned(position, offset, length)
    return this.context.memory.ownRange(block, offset, length)
  }

  private closedError(): DiskError {
    return new DiskError('CLOSED', `file ${this.name} is closed`)
  }

  private async closeOnce(): Promise<void> {
    await this.gate.close()
    this.onClosed(this)
    this.context.closeDescriptor(this.descriptor, `closing ${this.name}`)
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
}

function assertAligned(position: number, offset: number, length: number): void {
  assert(
    Number.isSafeInteger(position) && position >= 0 && position % BLOCK_BYTES === 0,
    'a position is a multiple of the block size',
  )
  assert(offset >= 0 && offset % BLOCK_BYTES === 0, 'an offset is a multiple of the block size')
  assert(length > 0 && length % BLOCK_BYTES === 0, 'a length is a multiple of the block size, above zero')
}
