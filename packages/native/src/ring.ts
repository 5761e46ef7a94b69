// A ring in JavaScript: submissions are written and completions read right in the memory shared with the kernel.
import { type Binding, binding } from './binding.js'
import { errnoName, SystemError } from './errors.js'
import * as layout from './layout.js'

export interface RingOptions {
  /** Submissions between two enters before the ring enters by itself; rounded up to a power of two. */
  readonly entries: number
  /** Completions the kernel can hold without its overflow list; rounded up to a power of two. */
  readonly completions: number
  /** Set-up flags that may be used; all unless given. Fewer serve to try how older kernels behave. */
  readonly allowedFlags?: number
}

/** Takes completions. `slot` and `generation` are the two halves of the submission's user data. */
export interface CompletionSink {
  complete(slot: number, generation: number, result: number, flags: number): void
}

/** The slot in the user data of submissions whose completions interest nobody. */
export const NO_SLOT = 0xffffffff

const WORDS_PER_SQE = layout.SQE_BYTES / 4
const WORDS_PER_CQE = layout.CQE_BYTES / 4
const TWO_TO_32 = 4_294_967_296
const WORK = layout.CONTROL_WORK / 4
const ACTIVE = layout.CONTROL_ACTIVE / 4
const REFERENCED = layout.CONTROL_REFERENCED / 4
const FINALS = layout.CONTROL_FINALS / 4

/**
 * Submissions become visible to the kernel with `submit`, on the thread that made the ring and no other. Memory named
 * by a submission must stay as it is until the last completion: it belongs to an `Arena`.
 *
 * When the queue is full and the kernel takes nothing, submissions wait in ordinary memory, in order.
 */
export class Ring {
  readonly flags: number
  readonly features: number
  readonly entries: number
  closed = false
  private readonly native: Binding
  readonly handle: number
  private readonly words: Uint32Array
  private readonly results: Int32Array
  private readonly sqes: Uint32Array
  private readonly control: Uint32Array
  private readonly sqMask: number
  private readonly sqTail: number
  private readonly sqFlags: number
  private readonly cqMask: number
  private readonly cqHead: number
  private readonly cqTail: number
  private readonly cqes: number
  private tail: number
  /** Written into the queue and not yet taken by the kernel. */
  private queued = 0
  private spill = new Uint32Array(WORDS_PER_SQE * 64)
  private spilled = 0
  /** Where the submission being written goes: the queue or the spill. */
  private target: Uint32Array

  /** @throws SystemError when the kernel refuses (see `probeKernel`); Error when the addon is not there. */
  constructor(options: RingOptions) {
    this.native = binding()
    const opened = this.native.ringOpen(options.entries, options.completions, options.allowedFlags ?? 0xffffffff)
    if ('call' in opened) throw new SystemError(opened.call, opened.errno)
    this.handle = opened.handle
    this.flags = opened.flags
    this.features = opened.features
    this.entries = opened.sqEntries
    this.words = new Uint32Array(opened.ring, 0, Math.floor(opened.ring.byteLength / 4))
    this.results = new Int32Array(opened.ring, 0, this.words.length)
    this.sqes = new Uint32Array(opened.sqes)
    this.control = new Uint32Array(opened.control)
    this.sqMask = opened.sqEntries - 1
    this.sqTail = opened.sqTail
    this.sqFlags = opened.sqFlags
    this.cqMask = opened.cqEntries - 1
    this.cqHead = opened.cqHead
    this.cqTail = opened.cqTail
    this.cqes = opened.cqes
    this.tail = this.words[opened.sqTail]!
    this.target = this.sqes
  }

  // -------------------------------------------------------------- life in the event loop

  /** Calls `turn` from the event loop from now on, see cpp/loop.h. The turn begins with `beginTurn`. */
  start(turn: (woken: boolean) => void): void {
    this.native.ringStart(this.handle, turn)
  }

  /** Asks for a turn before the loop waits. */
  requestTurn(): void {
    this.control[WORK] = 1
  }

  /** What was asked for so far is being done; what is asked for from now on needs another turn. */
  beginTurn(): void {
    this.control[WORK] = 0
  }

  /** Counts a reason for the process to stay alive. */
  hold(): void {
    this.control[ACTIVE] = this.control[ACTIVE]! + 1
    if (this.control[REFERENCED] === 0) this.native.ringReference(this.handle)
  }

  /** Takes a reason back; the ring lets go of the loop before the next wait if it was the last. */
  letGo(): void {
    this.control[ACTIVE] = this.control[ACTIVE]! - 1
  }

  /**
   * Cancels what is in flight and waits for it, `waitMs` at most; then frees the ring, or leaks it when something is
   * still in flight, whose number is the answer. Blocks: callers wait by turns first and pass 0.
   */
  close(waitMs: number): number {
    this.closed = true
    return this.native.ringClose(this.handle, waitMs)
  }

  // -------------------------------------------------------------- entering and reading

  /** Submissions written and not yet taken by the kernel. */
  get unsubmitted(): number {
    return this.queued + this.spilled
  }

  /** Whether the kernel says that entering would bring completions forth. */
  get wantsEnter(): boolean {
    return (Atomics.load(this.words, this.sqFlags) & (layout.SQ_TASKRUN | layout.SQ_CQ_OVERFLOW)) !== 0
  }

  /**
   * Submits everything and lets the kernel post completions. What it does not take for want of memory stays queued
   * and false is returned: try again later.
   * @throws SystemError when the ring cannot be used (EEXIST: another thread than its own).
   */
  submit(minComplete = 0): boolean {
    do {
      this.refill()
      Atomics.store(this.words, this.sqTail, this.tail)
      const answer = this.native.ringEnter(this.handle, this.queued, minComplete, layout.ENTER_GET_EVENTS)
      if (answer >= 0) {
        // Nothing taken although there was something: completions have to be read first.
        if (answer === 0 && this.queued > 0) return false
        this.queued -= answer
      } else {
        const name = errnoName(answer)
        if (name === 'EAGAIN' || name === 'EBUSY') return false
        if (name !== 'EINTR') throw new SystemError('io_uring_enter', answer)
        if (minComplete > 0) return true
      }
    } while (this.unsubmitted > 0)
    return true
  }

  /**
   * Hands every completion that is there to `sink`; how many there were. A sink that throws loses nothing: the rest
   * is handed out next time.
   */
  reap(sink: CompletionSink): number {
    const words = this.words
    const begin = words[this.cqHead]!
    const end = Atomics.load(words, this.cqTail)
    let head = begin
    let finals = 0
    try {
      while (head !== end && !this.closed) {
        const at = this.cqes + (head & this.cqMask) * WORDS_PER_CQE
        const flags = words[at + 3]!
        head = (head + 1) >>> 0
        if ((flags & layout.CQE_MORE) === 0) finals++
        sink.complete(words[at]!, words[at + 1]!, this.results[at + 2]!, flags)
      }
    } finally {
      if (!this.closed) {
        // Invariant: the head first, see `Control` in cpp/ring.h.
        Atomics.store(words, this.cqHead, head)
        this.control[FINALS] = this.control[FINALS]! + finals
      }
    }
    return (head - begin) >>> 0
  }

  // -------------------------------------------------------------- submissions

  nop(slot: number, generation: number): void {
    this.put(layout.OP_NOP, -1, 0, 0, 0, 0, slot, generation, 0)
  }

  /** @param bufferIndex the registered buffer that holds the range, or -1. */
  read(
    descriptor: number,
    address: number,
    length: number,
    position: number,
    bufferIndex: number,
    slot: number,
    generation: number,
  ): void {
    if (bufferIndex < 0) this.put(layout.OP_READ, descriptor, position, address, length, 0, slot, generation, 0)
    else this.put(layout.OP_READ_FIXED, descriptor, position, address, length, 0, slot, generation, bufferIndex)
  }

  /** @param bufferIndex the registered buffer that holds the range, or -1. */
  write(
    descriptor: number,
    address: number,
    length: number,
    position: number,
    bufferIndex: number,
    slot: number,
    generation: number,
  ): void {
    if (bufferIndex < 0) this.put(layout.OP_WRITE, descriptor, position, address, length, 0, slot, generation, 0)
    else this.put(layout.OP_WRITE_FIXED, descriptor, position, address, length, 0, slot, generation, bufferIndex)
  }

  /** fdatasync, or fsync with `withMetadata`. */
  sync(descriptor: number, withMetadata: boolean, slot: number, generation: number): void {
    const flags = withMetadata ? 0 : layout.FSYNC_DATA_ONLY
    this.put(layout.OP_FSYNC, descriptor, 0, 0, 0, flags, slot, generation, 0)
  }

  /** fallocate with mode 0: the size grows to `position + length`. */
  allocate(descriptor: number, position: number, length: number, slot: number, generation: number): void {
    this.put(layout.OP_FALLOCATE, descriptor, position, length, 0, 0, slot, generation, 0)
  }

  /** One completion for each connection, until one comes without F_MORE. */
  acceptAll(descriptor: number, slot: number, generation: number): void {
    const operation = layout.OP_ACCEPT | (layout.ACCEPT_MULTISHOT << 16)
    this.put(operation, descriptor, 0, 0, 0, layout.SOCK_CLOEXEC, slot, generation, 0)
  }

  /** @param address where `socketToConnect` has written it; the bytes stay as they are until the completion. */
  connect(descriptor: number, address: number, slot: number, generation: number): void {
    this.put(layout.OP_CONNECT, descriptor, layout.SOCKET_ADDRESS_BYTES, address, 0, 0, slot, generation, 0)
  }

  /** @param pollFirst when the socket is known to be empty: spares an attempt. */
  receive(
    descriptor: number,
    address: number,
    length: number,
    messageFlags: number,
    pollFirst: boolean,
    slot: number,
    generation: number,
  ): void {
    const operation = layout.OP_RECV | (pollFirst ? layout.RECVSEND_POLL_FIRST << 16 : 0)
    this.put(operation, descriptor, 0, address, length, messageFlags, slot, generation, 0)
  }

  /** Receives into whichever buffer of the group comes next, taken only when there are bytes. */
  receiveProvided(descriptor: number, group: number, pollFirst: boolean, slot: number, generation: number): void {
    const operation =
      layout.OP_RECV | (layout.SQE_BUFFER_SELECT << 8) | (pollFirst ? layout.RECVSEND_POLL_FIRST << 16 : 0)
    this.put(operation, descriptor, 0, 0, 0, 0, slot, generation, group)
  }

  send(
    descriptor: number,
    address: number,
    length: number,
    messageFlags: number,
    slot: number,
    generation: number,
  ): void {
    this.put(layout.OP_SEND, descriptor, 0, address, length, messageFlags, slot, generation, 0)
  }

  /** @param address of a `struct msghdr`, which the kernel reads while it takes the submission, not later. */
  sendMessage(descriptor: number, address: number, messageFlags: number, slot: number, generation: number): void {
    this.put(layout.OP_SENDMSG, descriptor, 0, address, 1, messageFlags, slot, generation, 0)
  }

  /** Cancels the submission with the given user data, if it is found in time. Its own completion is not reported. */
  cancel(slot: number, generation: number): void {
    const at = this.put(layout.OP_ASYNC_CANCEL, -1, 0, 0, 0, 0, NO_SLOT, 0, 0)
    // The user data stands where other operations have an address; as one number it would not be exact.
    this.target[at + 4] = slot
    this.target[at + 5] = generation
  }

  /** Cancels everything in flight. Its own completion is not reported. */
  cancelAll(): void {
    this.put(layout.OP_ASYNC_CANCEL, -1, 0, 0, 0, layout.CANCEL_ALL | layout.CANCEL_ANY, NO_SLOT, 0, 0)
  }

  // -------------------------------------------------------------- registrations

  /** Room for `slots` fixed buffers. A negative errno when the kernel refuses. */
  registerBufferTable(slots: number): number {
    return this.native.ringRegisterBufferTable(this.handle, slots)
  }

  /** Pins an arena as a fixed buffer, which commits its memory. A negative errno: ENOMEM for the limit on locked memory. */
  registerBuffer(slot: number, arenaHandle: number): number {
    return this.native.ringRegisterBuffer(this.handle, slot, arenaHandle)
  }

  /** A ring of provided buffers that lies in an arena, at an offset that is a multiple of the page size. */
  registerBufferRing(group: number, entries: number, arenaHandle: number, offset: number): number {
    return this.native.ringRegisterBufferRing(this.handle, group, entries, arenaHandle, offset)
  }

  // -------------------------------------------------------------- inside

  /** `operation` is the first word: opcode, flags << 8, ioprio << 16. Words 12 to 15 are never anything but zero. */
  private put(
    operation: number,
    descriptor: number,
    offset: number,
    address: number,
    length: number,
    operationFlags: number,
    slot: number,
    generation: number,
    buffer: number,
  ): number {
    const at = this.nextEntry()
    const words = this.target
    words[at] = operation
    words[at + 1] = descriptor
    words[at + 2] = offset
    words[at + 3] = offset / TWO_TO_32
    words[at + 4] = address
    words[at + 5] = address / TWO_TO_32
    words[at + 6] = length
    words[at + 7] = operationFlags
    words[at + 8] = slot
    words[at + 9] = generation
    words[at + 10] = buffer
    words[at + 11] = 0
    return at
  }

  private nextEntry(): number {
    this.control[WORK] = 1
    if (this.queued === this.entries) this.submit()
    if (this.queued === this.entries || this.spilled > 0) return this.nextSpilled()
    this.target = this.sqes
    const at = (this.tail & this.sqMask) * WORDS_PER_SQE
    this.tail = (this.tail + 1) >>> 0
    this.queued++
    return at
  }

  private nextSpilled(): number {
    const at = this.spilled * WORDS_PER_SQE
    if (at === this.spill.length) {
      const larger = new Uint32Array(this.spill.length * 2)
      larger.set(this.spill)
      this.spill = larger
    }
    this.spilled++
    this.target = this.spill
    return at
  }

  /** Moves what waits in the spill into the queue, as much as fits. */
  private refill(): void {
    if (this.spilled === 0) return
    const count = Math.min(this.spilled, this.entries - this.queued)
    for (let i = 0; i < count; i++) {
      const from = i * WORDS_PER_SQE
      this.sqes.set(this.spill.subarray(from, from + WORDS_PER_SQE), (this.tail & this.sqMask) * WORDS_PER_SQE)
      this.tail = (this.tail + 1) >>> 0
    }
    this.queued += count
    this.spill.copyWithin(0, count * WORDS_PER_SQE, this.spilled * WORDS_PER_SQE)
    this.spilled -= count
  }
}
