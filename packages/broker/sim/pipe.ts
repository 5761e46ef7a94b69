// One direction of a simulated connection: a send queue, the network, and the receiver's kernel buffer.
import { crc32 } from 'node:zlib'
import type { NetworkPath } from './network-path.js'
import type { SeededRandom } from './random.js'
import type { Scheduler, SimulatedProcess } from './scheduler.js'

/** Bytes that may be on the way or undelivered before the sender's kernel takes no more. */
const WINDOW_BYTES = 1024 * 1024
const LARGEST_CHUNK_BYTES = 65_536
/** How long after a path is whole again its senders may take to try once more. */
const RETRANSMISSION_MS = 250

/** What the network is like at the moment; changed by whoever drives the simulation. */
export interface NetworkConditions {
  minLatencyMs: number
  meanLatencyMs: number
  /** Of a delivery to be cut at a random place instead of carrying all that has arrived. */
  shredRate: number
  /** Of a datagram, besides what a cut path swallows. */
  datagramLossRate: number
  datagramDuplicateRate: number
}

export function goodNetwork(): NetworkConditions {
  return { minLatencyMs: 0.02, meanLatencyMs: 0.05, shredRate: 0.2, datagramLossRate: 0, datagramDuplicateRate: 0 }
}

/** A range of the sender's memory. `taken` is called when the kernel has all of it. */
interface Segment {
  readonly bytes: Uint8Array
  sent: number
  readonly taken: () => void
}

interface Packet {
  readonly atMs: number
  /** Null is the end of the stream. */
  readonly bytes: Uint8Array | null
}

export interface PipeReceiver {
  readonly process: SimulatedProcess
  onBytes(chunk: Uint8Array): void
  /** The sender has ended; nothing follows. */
  onEnd(): void
}

export class Pipe {
  unsentBytes = 0
  private readonly queue: Segment[] = []
  private readonly packets: Packet[] = []
  private arrived: Uint8Array[] = []
  private arrivedBytes = 0
  private onTheWayBytes = 0
  private lastArrivalMs = 0
  private ending = false
  private ended = false
  private arrivalDue = false
  private takenDue: (() => void)[] = []
  private paused = false
  private severed = false
  /** What was lost on a path that was cut comes again at this moment. */
  private retransmittedAtMs = 0
  private waitsForPath = false
  private receiver: PipeReceiver | null = null

  constructor(
    private readonly scheduler: Scheduler,
    private readonly sender: SimulatedProcess,
    private readonly conditions: NetworkConditions,
    readonly path: NetworkPath,
    private readonly random: SeededRandom,
    private readonly onArrival: () => void,
  ) {}

  /** Whether bytes wait that the receiver has not been given. */
  get hasUndelivered(): boolean {
    return this.arrivedBytes > 0 || this.onTheWayBytes > 0
  }

  attach(receiver: PipeReceiver): void {
    this.receiver = receiver
    this.expectArrival()
  }

  write(bytes: Uint8Array, taken: () => void): void {
    if (bytes.byteLength === 0 || this.ending) {
      this.takeLater(taken)
      return
    }
    this.unsentBytes += bytes.byteLength
    this.queue.push({ bytes, sent: 0, taken })
    this.pump()
  }

  /** The end follows everything queued. */
  end(): void {
    if (this.ending) return
    this.ending = true
    this.pump()
  }

  /** Drops what the kernel has not taken, then ends, or just stops. Every `taken` is called before this returns. */
  abandon(withEnd: boolean): void {
    const waiting = this.queue.splice(0)
    const due = this.takenDue
    this.takenDue = []
    for (const taken of due) taken()
    this.unsentBytes = 0
    for (const { taken } of waiting) taken()
    if (withEnd) this.end()
    this.ending = true
    this.ended = true
  }

  pause(): void {
    this.paused = true
  }

  resume(): void {
    this.paused = false
    this.expectArrival()
  }

  /** Nothing sent or on the way arrives any more, and nobody is told: a cable pulled. */
  sever(): void {
    this.severed = true
  }

  /** The sender has lost power: what has left it arrives, nothing follows. */
  stopLaunching(): void {
    this.queue.length = 0
    this.ending = true
    this.ended = true
  }

  /** Delivers an unknown prefix of what is on the way, drops the rest: what a lost connection leaves. */
  cut(): void {
    this.moveArrived(Number.POSITIVE_INFINITY)
    const keep = this.random.pick([0, 0.5, 1])
    const kept = Math.floor(this.arrivedBytes * (keep === 0.5 ? this.random.fraction() : keep))
    const chunk = this.takeArrived(kept)
    this.arrived = []
    this.arrivedBytes = 0
    this.severed = true
    if (chunk.byteLength > 0 && this.receiver?.process.alive && !this.paused) this.receiver.onBytes(chunk)
  }

  private pump(): void {
    while (this.queue.length > 0) {
      const room = WINDOW_BYTES - this.onTheWayBytes - this.arrivedBytes
      if (room <= 0) return
      const segment = this.queue[0]!
      const count = Math.min(room, LARGEST_CHUNK_BYTES, segment.bytes.byteLength - segment.sent)
      this.launch(segment.bytes.slice(segment.sent, segment.sent + count))
      segment.sent += count
      if (segment.sent === segment.bytes.byteLength) {
        this.queue.shift()
        this.takeLater(() => {
          this.unsentBytes -= segment.bytes.byteLength
          segment.taken()
        })
      }
    }
    if (this.ending && !this.ended) {
      this.ended = true
      this.launch(null)
    }
  }

  private launch(bytes: Uint8Array | null): void {
    const { minLatencyMs, meanLatencyMs } = this.conditions
    const latency = minLatencyMs + this.random.exponential(meanLatencyMs) + this.path.extraLatencyMs
    this.lastArrivalMs = Math.max(this.lastArrivalMs, this.scheduler.nowMs + latency)
    this.packets.push({ atMs: this.lastArrivalMs, bytes })
    this.onTheWayBytes += bytes?.byteLength ?? 0
    if (bytes !== null) this.scheduler.trace.note('sent', bytes.byteLength, crc32(bytes, 0))
    this.expectArrival()
  }

  /** The kernel tells of taken bytes later, never inside the call that wrote them. */
  private takeLater(taken: () => void): void {
    this.takenDue.push(taken)
    if (this.takenDue.length > 1) return
    this.scheduler.schedule(this.sender, this.random.between(0, 0.02), 'taken', () => {
      const due = this.takenDue
      this.takenDue = []
      for (const each of due) each()
    })
  }

  private expectArrival(): void {
    if (this.arrivalDue || this.paused || this.severed || this.receiver === null) return
    const isHeldUp = this.arrivedBytes === 0 && this.path.isCut
    if (isHeldUp) this.waitForPath()
    const arrival = this.packets[0] && Math.max(this.packets[0].atMs, this.retransmittedAtMs)
    const next = this.arrivedBytes > 0 ? this.scheduler.nowMs : arrival
    if (next === undefined || isHeldUp) return
    this.arrivalDue = true
    this.scheduler.schedule(this.receiver.process, next - this.scheduler.nowMs, 'arrival', () => {
      this.arrivalDue = false
      this.deliver()
    })
  }

  private waitForPath(): void {
    if (this.waitsForPath || this.packets.length === 0) return
    this.waitsForPath = true
    this.path.whenHealed(() => {
      this.waitsForPath = false
      this.retransmittedAtMs = this.scheduler.nowMs + this.random.between(0, RETRANSMISSION_MS)
      this.expectArrival()
    })
  }

  private deliver(): void {
    if (this.paused || this.severed || this.receiver === null) return
    if (!this.path.isCut) this.moveArrived(this.scheduler.nowMs)
    const chunk = this.takeArrived(this.chunkBytes())
    if (chunk.byteLength > 0) {
      this.onArrival()
      this.receiver.onBytes(chunk)
      this.pump()
    } else if (
      !this.path.isCut &&
      this.arrivedBytes === 0 &&
      this.packets[0]?.bytes === null &&
      this.packets[0].atMs <= this.scheduler.nowMs
    ) {
      this.packets.shift()
      this.receiver.onEnd()
      return
    }
    this.expectArrival()
  }

  private chunkBytes(): number {
    const most = Math.min(this.arrivedBytes, LARGEST_CHUNK_BYTES)
    if (!this.random.chance(this.conditions.shredRate)) return most
    const bound = this.random.pick([4, 64, 1460, most])
    return this.random.integer(1, Math.max(1, Math.min(bound, most)))
  }

  private moveArrived(untilMs: number): void {
    for (let first = this.packets[0]; first?.bytes && first.atMs <= untilMs; first = this.packets[0]) {
      this.packets.shift()
      this.arrived.push(first.bytes)
      this.arrivedBytes += first.bytes.byteLength
      this.onTheWayBytes -= first.bytes.byteLength
    }
  }

  private takeArrived(count: number): Uint8Array {
    const chunk = new Uint8Array(Math.min(count, this.arrivedBytes))
    let at = 0
    while (at < chunk.byteLength) {
      const first = this.arrived[0]!
      const part = Math.min(first.byteLength, chunk.byteLength - at)
      chunk.set(first.subarray(0, part), at)
      at += part
      if (part === first.byteLength) this.arrived.shift()
      else this.arrived[0] = first.subarray(part)
    }
    this.arrivedBytes -= chunk.byteLength
    return chunk
  }
}
