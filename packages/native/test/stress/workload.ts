// One thread's share of the stress: a ring of its own with registered memory, files, sockets and checksums, driven from
// the event loop until it is told how to end, or is ended by others in the middle of everything.
import { execFileSync } from 'node:child_process'
import { constants, rmSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { parentPort, threadId } from 'node:worker_threads'
import {
  Arena,
  BufferRing,
  binding,
  CQE_BUFFER,
  CQE_BUFFER_SHIFT,
  CQE_MORE,
  checksum,
  closeDescriptor,
  listenOn,
  openFile,
  Ring,
  shutdownBoth,
  syncFileSystem,
} from '@millrace/native'

/** How a workload ends by itself; `never` waits for `Worker.terminate`. */
export type EndingKind = 'close' | 'exit' | 'throw' | 'never'

const ARENA_BYTES = 1024 * 1024
const BLOCK_BYTES = 16 * 1024
const BLOCKS = ARENA_BYTES / BLOCK_BYTES
const GROUP = 1
const BUFFERS = { group: GROUP, count: 16, bufferBytes: 4096 }
const FILE_OPERATIONS = 8
const FIRST_RECEIVE_SLOT = 100
const ACCEPT_SLOT = 90
const FOREVER_SLOT = 91

/** Numbers in [0, limit) from a seed (a linear congruence; its high bits). */
export function randomFrom(seed: number): (limit: number) => number {
  let state = seed >>> 0
  return (limit) => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0
    return Math.floor((state / 2 ** 32) * limit)
  }
}

export class Workload {
  operations = 0
  private readonly ring = new Ring({ entries: 32, completions: 128 })
  private readonly files = new Arena(ARENA_BYTES, this.ring)
  private readonly buffers = new Arena(ARENA_BYTES, this.ring)
  private readonly scratch = new Arena(ARENA_BYTES, null)
  private readonly bytes = new Uint8Array(this.files.buffer)
  private readonly path = join(tmpdir(), `millrace-stress-${process.pid}-${threadId}`)
  private readonly descriptor: number
  private readonly pipe: number
  private readonly listener: number
  private readonly provided: BufferRing
  private readonly streams = new Map<number, number>()
  private readonly sockets: Socket[] = []
  private ending = false
  private syncing = false

  constructor(
    private readonly random: (limit: number) => number,
    /** Counters that all threads add to. */
    private readonly shared: Int32Array,
  ) {
    this.descriptor = openFile(this.path, constants.O_RDWR | constants.O_CREAT, 0o600)
    execFileSync('mkfifo', [`${this.path}.pipe`])
    this.pipe = openFile(`${this.path}.pipe`, constants.O_RDWR)
    rmSync(`${this.path}.pipe`)
    rmSync(this.path)
    this.ring.registerBufferTable(4)
    this.ring.registerBuffer(0, this.files.handle)
    this.provided = new BufferRing(this.ring, this.buffers, 0, BUFFERS)
    const { descriptor, port } = listenOn('127.0.0.1', 0, 16)
    this.listener = descriptor
    this.ring.start(() => this.turn())
    this.ring.hold()
    this.ring.acceptAll(this.listener, ACCEPT_SLOT, 0)
    // Nothing is ever written to the pipe: this read is in flight however the thread ends.
    this.ring.read(this.pipe, this.files.address, 1, 0, -1, FOREVER_SLOT, 0)
    for (let slot = 0; slot < FILE_OPERATIONS; slot++) this.nextFileOperation(slot)
    for (let i = 0; i < 2; i++) this.connectTo(port)
  }

  /** Closes in order with operations in flight. @returns what the kernel still held. */
  close(): number {
    this.ending = true
    for (const socket of this.sockets) socket.destroy()
    const inFlight = this.ring.close(2000)
    this.files.close()
    this.buffers.close()
    this.scratch.close()
    for (const descriptor of [...this.streams.values(), this.listener, this.pipe, this.descriptor]) {
      closeDescriptor(descriptor)
    }
    return inFlight
  }

  private turn(): void {
    this.ring.beginTurn()
    this.ring.submit()
    this.ring.reap({ complete: (slot, _generation, result, flags) => this.completed(slot, result, flags) })
    if (!this.ending && this.ring.unsubmitted > 0) this.ring.submit()
  }

  private completed(slot: number, result: number, flags: number): void {
    this.operations++
    Atomics.add(this.shared, 0, 1)
    if (this.ending) return
    if (slot < FILE_OPERATIONS) this.nextFileOperation(slot)
    else if (slot === ACCEPT_SLOT) this.accepted(result, flags)
    else if (slot >= FIRST_RECEIVE_SLOT) this.received(slot, result, flags)
  }

  private nextFileOperation(slot: number): void {
    const block = this.random(BLOCKS)
    const address = this.files.address + block * BLOCK_BYTES
    switch (this.random(8)) {
      case 0:
        this.ring.sync(this.descriptor, false, slot, 0)
        return
      case 1:
        this.checksums(block)
        this.ring.nop(slot, 0)
        return
      case 2:
        this.syncElsewhere()
        this.ring.nop(slot, 0)
        return
      case 3:
      case 4:
        this.bytes.fill(this.random(256), block * BLOCK_BYTES, (block + 1) * BLOCK_BYTES)
        this.ring.write(this.descriptor, address, BLOCK_BYTES, this.random(BLOCKS) * BLOCK_BYTES, 0, slot, 0)
        return
      default:
        this.ring.read(
          this.descriptor,
          address,
          BLOCK_BYTES,
          this.random(BLOCKS) * BLOCK_BYTES,
          this.random(2) - 1,
          slot,
          0,
        )
    }
  }

  private checksums(block: number): void {
    const at = block * BLOCK_BYTES
    binding().copyWithChecksum(this.scratch.handle, at, this.files.handle, at, BLOCK_BYTES, 0)
    checksum(this.scratch, at, BLOCK_BYTES, 0)
  }

  /** syncfs runs on a thread of libuv's pool and comes back by a promise, perhaps after everything else. */
  private syncElsewhere(): void {
    if (this.syncing) return
    this.syncing = true
    void syncFileSystem(this.descriptor).then(
      () => {
        this.syncing = false
      },
      () => {
        this.syncing = false
      },
    )
  }

  private connectTo(port: number): void {
    const socket = connect(port, '127.0.0.1')
    this.sockets.push(socket)
    socket.on('error', () => {})
    socket.on('data', (chunk) => socket.write(chunk))
    socket.write(new Uint8Array(10_000))
  }

  private accepted(descriptor: number, flags: number): void {
    if (descriptor >= 0) {
      const slot = FIRST_RECEIVE_SLOT + this.streams.size
      this.streams.set(slot, descriptor)
      this.ring.receiveProvided(descriptor, GROUP, true, slot, 0)
    }
    if ((flags & CQE_MORE) === 0) this.ring.acceptAll(this.listener, ACCEPT_SLOT, 0)
  }

  private received(slot: number, result: number, flags: number): void {
    const descriptor = this.streams.get(slot)!
    if (result <= 0 || (flags & CQE_BUFFER) === 0) return
    const id = flags >>> CQE_BUFFER_SHIFT
    const chunk = this.provided.bytes(id, result)
    const block = this.random(BLOCKS)
    this.bytes.set(chunk, block * BLOCK_BYTES)
    this.provided.give(id)
    // Whether the answer is sent before the thread ends is nobody's promise: its memory must stay in any case.
    this.ring.send(descriptor, this.files.address + block * BLOCK_BYTES, result, 0, 0xffffffff, 0)
    if (this.random(1000) === 0) shutdownBoth(descriptor)
    else this.ring.receiveProvided(descriptor, GROUP, true, slot, 0)
  }
}

/** A thread of the stress; it answers messages with its count of operations until it ends. */
export function work(seed: number, shared: Int32Array, ending: EndingKind, lifeMs: number): void {
  const workload = new Workload(randomFrom(seed), shared)
  parentPort?.on('message', (message: unknown) => parentPort?.postMessage({ message, operations: workload.operations }))
  if (ending === 'never') return
  setTimeout(() => {
    if (ending === 'throw') throw new Error('planted: the thread ends with an exception')
    if (ending === 'exit') process.exit(0)
    const inFlight = workload.close()
    if (inFlight > 0) throw new Error(`${inFlight} operations did not end`)
    parentPort?.close()
  }, lifeMs)
}
