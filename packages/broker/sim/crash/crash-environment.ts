// The smallest environment a log store runs in: memory that is counted, time that a driver moves, nothing ambient.
import { crc32 } from 'node:zlib'
import type { Block, Clock, Disk, Environment, Logger, Memory, Network, Timer } from '#src/environment.js'
import type { SeededRandom } from '../random.js'

const BLOCK = 4096

class CrashBlock implements Block {
  readonly view: DataView
  readonly byteLength: number
  released = false

  constructor(readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
    this.byteLength = bytes.byteLength
  }
}

/** Released blocks are filled with this, so that whoever still reads them is caught. */
const POISON = 0xdb

export class CrashMemory implements Memory {
  usedBytes = 0
  private readonly free = new Map<number, CrashBlock[]>()
  private blocks: CrashBlock[] = []

  /** @param poison off where a run is not to spend its time on it. */
  constructor(
    readonly budgetBytes: number,
    private readonly poison = true,
  ) {}

  /** Takes every block back from a store that is gone with its process. */
  reset(): void {
    for (const block of this.blocks) if (!block.released) this.release(block)
    this.blocks = []
  }

  allocate(byteLength: number): Block | null {
    const rounded = Math.ceil(byteLength / BLOCK) * BLOCK
    if (this.usedBytes + rounded > this.budgetBytes) return null
    this.usedBytes += rounded
    const block = this.free.get(rounded)?.pop() ?? new CrashBlock(new Uint8Array(rounded))
    block.released = false
    this.blocks.push(block)
    return block
  }

  release(block: Block): void {
    if (!(block instanceof CrashBlock) || block.released) throw new Error('a block was released twice')
    block.released = true
    if (this.poison) block.bytes.fill(POISON)
    this.usedBytes -= block.byteLength
    const list = this.free.get(block.byteLength)
    if (list === undefined) this.free.set(block.byteLength, [block])
    else list.push(block)
  }

  checksum(block: Block, offset: number, length: number, seed: number): number {
    return crc32(block.bytes.subarray(offset, offset + length), seed)
  }

  copyWithChecksum(
    target: Block,
    targetOffset: number,
    source: Block,
    sourceOffset: number,
    length: number,
    seed: number,
  ): number {
    const bytes = source.bytes.subarray(sourceOffset, sourceOffset + length)
    target.bytes.set(bytes, targetOffset)
    return crc32(bytes, seed)
  }
}

interface PendingTimer {
  readonly atMs: number
  readonly callback: () => void
}

/** Deferred work runs once promises have settled; timers run when the driver lets time pass. */
export class CrashClock implements Clock {
  private nowMs = 0
  private timers: PendingTimer[] = []

  monotonicMs(): number {
    return this.nowMs
  }

  wallMs(): number {
    return 1_700_000_000_000 + Math.floor(this.nowMs)
  }

  timer(delayMs: number, callback: () => void): Timer {
    const timer = { atMs: this.nowMs + delayMs, callback }
    this.timers.push(timer)
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer)
      },
    }
  }

  defer(callback: () => void): void {
    void Promise.resolve().then(callback)
  }

  get hasTimers(): boolean {
    return this.timers.length > 0
  }

  /** Moves to the next timer and calls it; false when there is none. */
  fireNext(): boolean {
    const next = this.timers.reduce<PendingTimer | null>((a, b) => (a === null || b.atMs < a.atMs ? b : a), null)
    if (next === null) return false
    this.timers = this.timers.filter((timer) => timer !== next)
    this.nowMs = Math.max(this.nowMs, next.atMs)
    next.callback()
    return true
  }

  pass(ms: number): void {
    this.nowMs += ms
  }
}

const nowhere = (): never => {
  throw new Error('a log store uses neither network nor disk of its environment')
}
const SILENT: Logger = { debug() {}, info() {}, warn() {}, error() {} }

export interface CrashEnvironment extends Environment {
  bootId: string
  readonly memory: CrashMemory
  readonly clock: CrashClock
}

export function crashEnvironment(random: SeededRandom, memory = new CrashMemory(64 * 1024 * 1024)): CrashEnvironment {
  return {
    kind: 'simulated',
    clock: new CrashClock(),
    random: { uint32: () => random.uint32(), fill: (bytes) => random.fill(bytes) },
    memory,
    disk: { openVolume: nowhere } satisfies Disk,
    network: { listen: nowhere, dial: nowhere, datagrams: nowhere } satisfies Network,
    crypto: { seal: nowhere, open: nowhere },
    cores: { self: 0, count: 1 },
    log: SILENT,
    bootId: 'boot-1',
    close: async () => {},
  }
}
