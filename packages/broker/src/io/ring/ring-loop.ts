// The turn of the event loop on a ring: completions go to their operations, deferred work runs, submissions leave.
import { type CompletionSink, CQE_MORE, NO_SLOT, Ring } from '@millrace/native'
import { DiskError, type Logger } from '../../environment.js'

/** Whatever waits for completions of the kernel. */
export interface OperationTarget {
  /** @param result what the operation answered: a count, a descriptor, or a negative errno. */
  onCompletion(result: number, flags: number): void
}

export interface TurnEndFlush {
  flushTurn(): void
}

const SUBMISSIONS = 1024
const COMPLETIONS = 8192
const FIRST_SLOTS = 256
/** How long `close` waits for the kernel before ring and memory are leaked. */
const DRAIN_MS = 2000
const CANCEL_AGAIN_MS = 100
const SUBMIT_AGAIN_MS = 1
const ECANCELED = -125

/**
 * Operations in flight live in slots; the user data of a submission is slot and generation, so that a completion can
 * never reach an operation that has taken the slot since.
 *
 * A turn is one call of the addon: woken by the kernel it enters once and hands out completions; before the loop
 * waits it runs what was deferred, lets streams gather what they send, and enters once with everything submitted.
 */
export class RingLoop implements CompletionSink {
  readonly ring: Ring
  private targets: (OperationTarget | null)[] = []
  private generations = new Uint32Array(FIRST_SLOTS)
  private readonly freeSlots: number[] = []
  private inFlight = 0
  private deferred: (() => void)[] = []
  private flushes: TurnEndFlush[] = []
  private holdsForDeferred = false
  private retrying = false
  private whenDrained: (() => void) | null = null
  private closed = false
  private leakedOperations = 0

  constructor(private readonly logger: Logger) {
    this.ring = new Ring({ entries: SUBMISSIONS, completions: COMPLETIONS })
    this.addSlots(FIRST_SLOTS)
    this.ring.start((woken) => this.turn(woken))
  }

  /** Whether the ring was closed with operations that the kernel still holds. */
  get leaked(): boolean {
    return this.leakedOperations > 0
  }

  /** @throws DiskError CLOSED once the environment has been closed. */
  assertOpen(): void {
    if (this.closed) throw new DiskError('CLOSED', 'the environment is closed')
  }

  /** A slot for one submission of `target`; given back by its last completion. */
  acquire(target: OperationTarget): number {
    this.assertOpen()
    if (this.freeSlots.length === 0) this.addSlots(this.targets.length)
    const slot = this.freeSlots.pop()!
    this.targets[slot] = target
    this.inFlight++
    this.ring.hold()
    return slot
  }

  generation(slot: number): number {
    return this.generations[slot]!
  }

  /** One operation without an object of its own; its result. For operations that are not many per second. */
  call(submit: (slot: number, generation: number) => void): Promise<number> {
    return new Promise((resolve) => {
      const slot = this.acquire({ onCompletion: resolve })
      submit(slot, this.generation(slot))
    })
  }

  complete(slot: number, generation: number, result: number, flags: number): void {
    if (slot === NO_SLOT || this.generations[slot] !== generation) return
    const target = this.targets[slot]!
    if ((flags & CQE_MORE) === 0) this.release(slot)
    target.onCompletion(result, flags)
  }

  /** Runs `callback` at the end of this turn; what it defers waits for the next, so that input cannot be starved. */
  defer(callback: () => void): void {
    if (this.closed) {
      // There are no turns any more, but a promise to call back is kept.
      setImmediate(callback)
      return
    }
    this.deferred.push(callback)
    this.wantTurn()
  }

  /** Asks for one `flushTurn` after the deferred callbacks of this turn. */
  flushAtEnd(target: TurnEndFlush): void {
    this.flushes.push(target)
    this.wantTurn()
  }

  /**
   * Cancels what is in flight and waits for it, two seconds at the most. What the kernel still holds then is leaked on
   * purpose: nothing may reuse or unmap memory of this ring.
   */
  async close(): Promise<void> {
    if (this.inFlight > 0) await this.drain()
    this.closed = true
    this.leakedOperations = this.ring.close(0)
    for (const callback of this.deferred) setImmediate(callback)
    if (!this.leaked) return
    this.logger.warn(
      { operations: this.leakedOperations },
      'the kernel did not finish every operation in time; its ring and memory are left to it until the process ends',
    )
    this.abandon()
  }

  private wantTurn(): void {
    if (!this.holdsForDeferred) {
      this.holdsForDeferred = true
      this.ring.hold()
    }
    this.ring.requestTurn()
  }

  private turn(woken: boolean): void {
    const ring = this.ring
    ring.beginTurn()
    let through = false
    try {
      if (!woken) this.runDeferred()
      else if (this.holdsForDeferred) ring.requestTurn()
      if (!this.closed) {
        if (woken || ring.unsubmitted > 0 || ring.wantsEnter) this.enter()
        ring.reap(this)
      }
      through = true
    } finally {
      // Whoever catches a callback's exception finds everything else going on.
      if (!through && !this.closed) ring.requestTurn()
    }
  }

  private runDeferred(): void {
    if (!this.holdsForDeferred) return
    const callbacks = this.deferred
    const flushes = this.flushes
    this.deferred = []
    this.flushes = []
    this.holdsForDeferred = false
    this.ring.letGo()
    let ran = 0
    let flushed = 0
    try {
      while (ran < callbacks.length) callbacks[ran++]!()
      while (flushed < flushes.length) flushes[flushed++]!.flushTurn()
    } finally {
      // A callback that throws is a bug that ends the process; until then nobody else's work is lost.
      for (; ran < callbacks.length; ran++) this.defer(callbacks[ran]!)
      for (; flushed < flushes.length; flushed++) this.flushAtEnd(flushes[flushed]!)
    }
  }

  private enter(): void {
    if (this.ring.submit() || this.retrying) return
    // The kernel is short of memory: completions may free some, and in any case it is asked again soon.
    this.retrying = true
    setTimeout(() => {
      this.retrying = false
      if (!this.closed) this.ring.requestTurn()
    }, SUBMIT_AGAIN_MS)
  }

  private release(slot: number): void {
    this.targets[slot] = null
    this.generations[slot] = (this.generations[slot]! + 1) >>> 0
    this.freeSlots.push(slot)
    this.inFlight--
    this.ring.letGo()
    if (this.inFlight === 0) this.whenDrained?.()
  }

  private addSlots(count: number): void {
    const before = this.targets.length
    if (this.generations.length < before + count) {
      const larger = new Uint32Array(before + count)
      larger.set(this.generations)
      this.generations = larger
    }
    for (let slot = before + count - 1; slot >= before; slot--) this.freeSlots.push(slot)
    this.targets = [...this.targets, ...new Array<null>(count).fill(null)]
  }

  private drain(): Promise<void> {
    return new Promise((resolve) => {
      // Once is not enough: an operation between two states can be missed.
      const again = setInterval(() => this.ring.cancelAll(), CANCEL_AGAIN_MS)
      const done = () => {
        clearInterval(again)
        clearTimeout(deadline)
        this.whenDrained = null
        resolve()
      }
      const deadline = setTimeout(done, DRAIN_MS)
      this.whenDrained = done
      this.ring.cancelAll()
    })
  }

  /** Whoever waits for an operation that was left to the kernel hears that it was cancelled. */
  private abandon(): void {
    const targets = this.targets
    this.targets = []
    for (const target of targets) target?.onCompletion(ECANCELED, 0)
  }
}
