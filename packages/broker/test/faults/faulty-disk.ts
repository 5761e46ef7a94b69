// A disk that misbehaves on request, below a real file system's interface: one flat directory, kept in memory and served
// through FUSE, with errors, hangs, short transfers, a limited size and lost caches switched on and off while it is used.
import {
  attributesAnswer,
  directoryAnswer,
  type ErrnoName,
  entryAnswer,
  type FuseAnswer,
  type FuseMount,
  type FuseRequest,
  mountFuse,
  OPERATIONS,
  openAnswer,
  ROOT,
  spaceAnswer,
  writtenAnswer,
} from './fuse.js'

/** What a fault can be put on. `open` is opening for writing; truncation counts as `allocate`. */
export type DiskOperation = 'open' | 'read' | 'write' | 'flush' | 'create' | 'remove' | 'rename' | 'allocate'

export const ALL_WRITING: readonly DiskOperation[] = ['open', 'write', 'create', 'remove', 'rename', 'allocate']

export interface Fault {
  readonly on: readonly DiskOperation[]
  /** An error; no answer until the fault is lifted; or a transfer that ends early, sometimes inside a block. */
  readonly effect: ErrnoName | 'hang' | 'short'
  /** Files it concerns; all unless given. */
  readonly files?: RegExp
  /** Operations that pass before the first fault. */
  readonly after?: number
  /** How many operations it meets; all unless given. */
  readonly times?: number
  /** Of the operations that are left; 1 unless given. */
  readonly probability?: number
  /** A failed flush may lose what it was for (Rebello et al., ATC 2020): the file is then as after its last flush. */
  readonly losesUnflushed?: boolean
}

export interface ActiveFault {
  /** Operations it has met. */
  readonly met: number
  /** The disk is well again; operations that hang are done now. */
  lift(): void
}

export interface DiskOptions {
  /** Whether the kernel passes several direct reads and writes on at once. Default true; short writes need false. */
  readonly asyncDirect?: boolean
  /** Whether reads and writes never go through the kernel's page cache. Default false; short ones need true. */
  readonly pastCache?: boolean
}

const BLOCK_BYTES = 4096
const LARGE_BYTES = 1024 * 1024 * 1024
const ACCESS_MODE = 3
const SETATTR_SIZE = 1 << 3
const ZEROS = new Uint8Array(BLOCK_BYTES)

const KINDS: ReadonlyMap<number, DiskOperation> = new Map([
  [OPERATIONS.read, 'read'],
  [OPERATIONS.write, 'write'],
  [OPERATIONS.fsync, 'flush'],
  [OPERATIONS.fsyncdir, 'flush'],
  [OPERATIONS.create, 'create'],
  [OPERATIONS.link, 'create'],
  [OPERATIONS.unlink, 'remove'],
  [OPERATIONS.rename, 'rename'],
  [OPERATIONS.rename2, 'rename'],
  [OPERATIONS.fallocate, 'allocate'],
  [OPERATIONS.setattr, 'allocate'],
])

/** One file: blocks that were written, replaced and never changed, so that those before the last flush can be kept. */
class StoredFile {
  byteLength = 0
  links = 1
  readonly blocks = new Map<number, Uint8Array>()
  /** Of blocks written since the last flush: what stood there at that flush. */
  private readonly before = new Map<number, Uint8Array | undefined>()

  constructor(readonly node: number) {}

  get allocatedBytes(): number {
    return this.blocks.size * BLOCK_BYTES
  }

  read(position: number, length: number): Buffer {
    const answer = Buffer.alloc(Math.max(0, Math.min(length, this.byteLength - position)))
    for (let at = 0; at < answer.length; ) {
      const inside = (position + at) % BLOCK_BYTES
      const count = Math.min(BLOCK_BYTES - inside, answer.length - at)
      const block = this.blocks.get(Math.floor((position + at) / BLOCK_BYTES))
      if (block !== undefined) answer.set(block.subarray(inside, inside + count), at)
      at += count
    }
    return answer
  }

  /** Whether a write to this range needs no more space. */
  holds(position: number, length: number): boolean {
    const end = Math.ceil((position + length) / BLOCK_BYTES)
    for (let number = Math.floor(position / BLOCK_BYTES); number < end; number++) {
      if (!this.blocks.has(number)) return false
    }
    return true
  }

  /** @returns the bytes written: fewer when there are no more than `freeBlocks`. */
  write(position: number, bytes: Uint8Array, freeBlocks: number): number {
    let free = freeBlocks
    let at = 0
    while (at < bytes.length) {
      const number = Math.floor((position + at) / BLOCK_BYTES)
      const inside = (position + at) % BLOCK_BYTES
      const count = Math.min(BLOCK_BYTES - inside, bytes.length - at)
      const old = this.blocks.get(number)
      if (old === undefined && free-- <= 0) break
      const block = new Uint8Array(BLOCK_BYTES)
      if (old !== undefined) block.set(old)
      block.set(bytes.subarray(at, at + count), inside)
      if (!this.before.has(number)) this.before.set(number, old)
      this.blocks.set(number, block)
      at += count
    }
    this.byteLength = Math.max(this.byteLength, position + at)
    return at
  }

  allocate(byteLength: number, freeBlocks: number): boolean {
    const missing: number[] = []
    for (let number = 0; number * BLOCK_BYTES < byteLength; number++) {
      if (!this.blocks.has(number)) missing.push(number)
    }
    if (missing.length > freeBlocks) return false
    for (const number of missing) this.blocks.set(number, ZEROS)
    this.byteLength = Math.max(this.byteLength, byteLength)
    return true
  }

  truncate(byteLength: number): void {
    this.byteLength = byteLength
    for (const number of [...this.blocks.keys()]) {
      if (number * BLOCK_BYTES < byteLength) continue
      this.blocks.delete(number)
      this.before.delete(number)
    }
  }

  flush(): void {
    this.before.clear()
  }

  loseUnflushed(): void {
    for (const [number, block] of this.before) this.blocks.set(number, block ?? ZEROS)
    this.before.clear()
  }
}

class InjectedFault implements ActiveFault {
  met = 0
  private seen = 0

  constructor(
    readonly fault: Fault,
    private readonly random: () => number,
    readonly lift: () => void,
  ) {}

  meets(kind: DiskOperation, name: string): boolean {
    const { on, files, after = 0, times = Number.POSITIVE_INFINITY, probability = 1 } = this.fault
    if (!on.includes(kind) || (files !== undefined && !files.test(name)) || this.met >= times) return false
    if (this.seen++ < after || this.random() >= probability) return false
    this.met++
    return true
  }
}

export class FaultyDisk {
  /** Bytes of file content the disk takes. */
  capacityBytes = LARGE_BYTES
  readonly counts: Record<DiskOperation, number> = {
    open: 0,
    read: 0,
    write: 0,
    flush: 0,
    create: 0,
    remove: 0,
    rename: 0,
    allocate: 0,
  }
  private readonly names = new Map<string, StoredFile>()
  private readonly files = new Map<number, StoredFile>()
  private nextNode = ROOT + 1
  private readonly faults = new Set<InjectedFault>()
  private hanging: { readonly request: FuseRequest; readonly fault: InjectedFault }[] = []
  private mount: FuseMount | null = null
  private state = 1

  private constructor(
    private readonly asyncDirect: boolean,
    private readonly pastCache: boolean,
  ) {}

  /** A disk that is well and empty, or why there cannot be one here (no root, no FUSE). */
  static async create(options: DiskOptions = {}): Promise<FaultyDisk | { readonly refused: string }> {
    const { asyncDirect = true, pastCache = false } = options
    const disk = new FaultyDisk(asyncDirect, pastCache)
    const mount = await mountFuse('faults', asyncDirect, (request) => disk.serve(request))
    if ('refused' in mount) return mount
    disk.mount = mount
    return disk
  }

  get directory(): string {
    return this.mount!.directory
  }

  /** Operations that wait for a fault to be lifted. */
  get hangingCount(): number {
    return this.hanging.length
  }

  get usedBytes(): number {
    let bytes = 0
    for (const file of this.files.values()) bytes += file.allocatedBytes
    return bytes
  }

  inject(fault: Fault): ActiveFault {
    const injected: InjectedFault = new InjectedFault(
      fault,
      () => this.random(),
      () => this.lift(injected),
    )
    this.faults.add(injected)
    return injected
  }

  /** Lifts every fault, and makes the disk larger than anybody needs. */
  repair(): void {
    this.capacityBytes = LARGE_BYTES
    for (const fault of [...this.faults]) fault.lift()
  }

  /** What was written and not flushed is gone, as after a power cut. Nobody may be using the disk. */
  cutPower(): void {
    for (const file of this.files.values()) file.loseUnflushed()
  }

  async end(): Promise<void> {
    this.repair()
    await this.mount?.end()
  }

  private lift(fault: InjectedFault): void {
    this.faults.delete(fault)
    const released = this.hanging.filter((parked) => parked.fault === fault)
    this.hanging = this.hanging.filter((parked) => parked.fault !== fault)
    for (const { request } of released) this.serve(request)
  }

  /** The same faults in every run that asks for the same operations. */
  private random(): number {
    this.state = (Math.imul(this.state, 1_664_525) + 1_013_904_223) >>> 0
    return this.state / 2 ** 32
  }

  private serve(request: FuseRequest): void {
    const kind = this.kindOf(request)
    if (kind !== undefined) {
      this.counts[kind]++
      const name = this.nameOf(request)
      for (const injected of this.faults) {
        if (!injected.meets(kind, name)) continue
        const { effect, losesUnflushed } = injected.fault
        if (effect === 'hang') {
          this.hanging.push({ request, fault: injected })
          return
        }
        if (losesUnflushed === true) this.files.get(request.node)?.loseUnflushed()
        this.answer(request, effect === 'short' ? this.perform(shortened(request)) : effect)
        return
      }
    }
    this.answer(request, this.perform(request))
  }

  private answer(request: FuseRequest, answer: FuseAnswer): void {
    this.mount?.answer(request, answer)
  }

  private kindOf({ operation, body }: FuseRequest): DiskOperation | undefined {
    if (operation === OPERATIONS.open) return (body.readUInt32LE(0) & ACCESS_MODE) === 0 ? undefined : 'open'
    if (operation === OPERATIONS.setattr && (body.readUInt32LE(0) & SETATTR_SIZE) === 0) return undefined
    return KINDS.get(operation)
  }

  /** The file a request is about, by a name it has. */
  private nameOf({ operation, node, body }: FuseRequest): string {
    if (operation === OPERATIONS.create) return textAt(body, 16)
    if (operation === OPERATIONS.unlink) return textAt(body, 0)
    for (const [name, file] of this.names) if (file.node === node) return name
    return ''
  }

  private perform(request: FuseRequest): FuseAnswer {
    const { operation, node } = request
    if (node === ROOT) return this.performOnDirectory(request)
    const file = this.files.get(node)
    if (file === undefined) return 'ENOENT'
    const { body } = request
    switch (operation) {
      case OPERATIONS.getattr:
        return attributesAnswer(file)
      case OPERATIONS.setattr:
        if ((body.readUInt32LE(0) & SETATTR_SIZE) !== 0) file.truncate(Number(body.readBigUInt64LE(16)))
        return attributesAnswer(file)
      case OPERATIONS.open:
        return openAnswer(this.pastCache)
      case OPERATIONS.read:
        return file.read(Number(body.readBigUInt64LE(8)), body.readUInt32LE(16))
      case OPERATIONS.write:
        return this.write(file, Number(body.readBigUInt64LE(8)), body.subarray(40, 40 + body.readUInt32LE(16)))
      case OPERATIONS.fallocate: {
        const end = Number(body.readBigUInt64LE(8)) + Number(body.readBigUInt64LE(16))
        return file.allocate(end, this.freeBlocks) ? Buffer.alloc(0) : 'ENOSPC'
      }
      case OPERATIONS.fsync:
        file.flush()
        return Buffer.alloc(0)
      case OPERATIONS.statfs:
        return this.space()
      case OPERATIONS.release:
      case OPERATIONS.flush:
        return Buffer.alloc(0)
      default:
        return 'ENOSYS'
    }
  }

  private performOnDirectory({ operation, body }: FuseRequest): FuseAnswer {
    switch (operation) {
      case OPERATIONS.lookup: {
        const file = this.names.get(textAt(body, 0))
        return file === undefined ? 'ENOENT' : entryAnswer(file)
      }
      case OPERATIONS.create: {
        const file = this.createFile(textAt(body, 16))
        return Buffer.concat([entryAnswer(file), openAnswer(this.pastCache)])
      }
      case OPERATIONS.link: {
        const file = this.files.get(Number(body.readBigUInt64LE(0)))
        const name = textAt(body, 8)
        if (file === undefined) return 'ENOENT'
        if (this.names.has(name)) return 'EEXIST'
        this.names.set(name, file)
        file.links++
        return entryAnswer(file)
      }
      case OPERATIONS.unlink:
        return this.unlink(textAt(body, 0)) ? Buffer.alloc(0) : 'ENOENT'
      case OPERATIONS.rename:
        return this.rename(body, 8)
      case OPERATIONS.rename2:
        return this.rename(body, 16)
      case OPERATIONS.getattr:
      case OPERATIONS.setattr:
        return attributesAnswer({ node: ROOT, byteLength: BLOCK_BYTES, allocatedBytes: 0, links: 2 })
      case OPERATIONS.opendir:
        return openAnswer(this.pastCache)
      case OPERATIONS.readdir: {
        const entries = [...this.names].map(([name, { node }]) => ({ name, node }))
        return directoryAnswer(entries, Number(body.readBigUInt64LE(8)), body.readUInt32LE(16))
      }
      case OPERATIONS.fsyncdir:
      case OPERATIONS.releasedir:
        return Buffer.alloc(0)
      case OPERATIONS.statfs:
        return this.space()
      default:
        return 'ENOSYS'
    }
  }

  private createFile(name: string): StoredFile {
    const found = this.names.get(name)
    if (found !== undefined) return found
    const file = new StoredFile(this.nextNode++)
    this.names.set(name, file)
    this.files.set(file.node, file)
    return file
  }

  private unlink(name: string): boolean {
    const file = this.names.get(name)
    if (file === undefined) return false
    this.names.delete(name)
    // Files that are still open stay for whoever has them, and take their space until the disk ends.
    if (--file.links === 0) file.truncate(0)
    return true
  }

  private rename(body: Buffer, at: number): FuseAnswer {
    const from = textAt(body, at)
    const to = textAt(body, at + Buffer.byteLength(from) + 1)
    const file = this.names.get(from)
    if (file === undefined) return 'ENOENT'
    if (this.names.get(to) === file) return Buffer.alloc(0)
    this.unlink(to)
    this.names.delete(from)
    this.names.set(to, file)
    return Buffer.alloc(0)
  }

  private write(file: StoredFile, position: number, bytes: Uint8Array): FuseAnswer {
    // The kernel makes an asynchronous short write EIO, which no file system answers when it is full.
    if (this.asyncDirect && bytes.length > this.freeBlocks * BLOCK_BYTES && !file.holds(position, bytes.length))
      return 'ENOSPC'
    const written = file.write(position, bytes, this.freeBlocks)
    return written === 0 && bytes.length > 0 ? 'ENOSPC' : writtenAnswer(written)
  }

  private get freeBlocks(): number {
    return Math.max(0, Math.floor((this.capacityBytes - this.usedBytes) / BLOCK_BYTES))
  }

  private space(): Buffer {
    return spaceAnswer(Math.floor(this.capacityBytes / BLOCK_BYTES), this.freeBlocks)
  }
}

/** A read or write of about half as much, which ends inside a block where there is more than one. */
function shortened(request: FuseRequest): FuseRequest {
  const length = request.body.readUInt32LE(16)
  if (length <= BLOCK_BYTES) return request
  const body = Buffer.from(request.body)
  body.writeUInt32LE(Math.ceil(length / 2 / BLOCK_BYTES) * BLOCK_BYTES + 512, 16)
  return { ...request, body }
}

function textAt(body: Buffer, from: number): string {
  return body.toString('utf8', from, body.indexOf(0, from))
}
