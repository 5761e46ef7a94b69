// Virtual time: a heap of events, run one after the other, with every promise settled in between.
import { EventHeap } from './event-heap.js'
import { Trace } from './trace.js'

/**
 * Times are multiples of 1/1024 ms: sums and differences of them are exact in floating point, so that a deadline is
 * reached exactly and no rounding differs between machines.
 */
const TICKS_PER_MS = 1024

/** Taken before anything could forbid it: the simulation itself runs on the real event loop. */
const realSetImmediate = setImmediate

/** A process of the simulated world. Once it is dead, nothing of it runs any more. */
export class SimulatedProcess {
  alive = true
  /** Events due before this moment wait for it: a stalled event loop. Set by `Scheduler.stall`. */
  stalledUntilMs = 0
  /** Events that wait. */
  readonly waiting: Event[] = []
  /** Timers set and neither fired nor cancelled. */
  pendingTimers = 0

  constructor(
    readonly name: string,
    readonly index: number,
  ) {}
}

export interface ScheduledEvent {
  cancel(): void
}

class Event implements ScheduledEvent {
  constructor(
    public atMs: number,
    public sequence: number,
    readonly process: SimulatedProcess | null,
    readonly label: string,
    public callback: (() => void) | null,
  ) {}

  cancel(): void {
    this.callback = null
  }
}

export type RunEnd = 'done' | 'idle' | 'deadline' | 'events'

export interface RunLimits {
  /** Virtual time at which the run is given up. */
  readonly deadlineMs: number
  readonly events: number
}

export class Scheduler {
  nowMs = 0
  eventsRun = 0
  readonly trace = new Trace()
  /** Called after every event, when everything that follows from it has happened. */
  onEvent: () => void = () => {}
  private readonly heap = new EventHeap<Event>()
  private sequence = 0
  private processes = 0

  spawn(name: string): SimulatedProcess {
    return new SimulatedProcess(name, ++this.processes)
  }

  /**
   * Runs `callback` after `delayMs` of virtual time, unless `process` has died by then.
   * Events of the same moment run in the order they were scheduled in.
   */
  schedule(process: SimulatedProcess | null, delayMs: number, label: string, callback: () => void): ScheduledEvent {
    const atMs = Math.ceil((this.nowMs + Math.max(0, delayMs)) * TICKS_PER_MS) / TICKS_PER_MS
    const event = new Event(atMs, this.sequence++, process, label, callback)
    this.heap.push(event)
    return event
  }

  /** Nothing of the process runs for so long; then everything that came meanwhile does, in order. */
  stall(process: SimulatedProcess, durationMs: number): void {
    process.stalledUntilMs = this.nowMs + durationMs
    this.schedule(null, durationMs, 'go on', () => this.goOn(process))
  }

  /** Ends a stall early. */
  resume(process: SimulatedProcess): void {
    process.stalledUntilMs = 0
    this.goOn(process)
  }

  private goOn(process: SimulatedProcess): void {
    if (process.stalledUntilMs > this.nowMs) return
    for (const event of process.waiting.splice(0)) {
      event.atMs = this.nowMs
      this.heap.push(event)
    }
  }

  /** Resolves after `delayMs` of virtual time: for the code that drives a simulation. */
  sleep(delayMs: number): Promise<void> {
    return new Promise((resolve) => this.schedule(null, delayMs, 'sleep', resolve))
  }

  /**
   * Runs events until `done` holds, nothing is left to run, or a limit is met. After each event every promise reaction
   * and `nextTick` has run before the next event begins, so the order of everything is that of the heap alone.
   * Rejects with what an event throws.
   */
  async run(done: () => boolean, limits: RunLimits): Promise<RunEnd> {
    const lastEvent = this.eventsRun + limits.events
    await settle()
    while (!done()) {
      const event = this.heap.pop()
      if (event === undefined) return 'idle'
      if (event.atMs > limits.deadlineMs) {
        this.heap.push(event)
        return 'deadline'
      }
      if (!this.begin(event)) continue
      await settle()
      this.onEvent()
      if (this.eventsRun >= lastEvent) return 'events'
    }
    return 'done'
  }

  /** Runs the event; false when there was nothing to run. */
  private begin(event: Event): boolean {
    const { callback, process } = event
    if (callback === null || process?.alive === false) return false
    this.nowMs = Math.max(this.nowMs, event.atMs)
    if (process !== null && process.stalledUntilMs > this.nowMs) {
      process.waiting.push(event)
      return false
    }
    this.eventsRun++
    event.callback = null
    this.trace.note(event.label, process?.index ?? 0, this.nowMs * TICKS_PER_MS)
    callback()
    return true
  }
}

/**
 * Immediates run when the queues of microtasks and of `nextTick` are both empty; a fixed number of awaits would not do
 * (50 nested async functions take 51 of them), and microtasks alone starve `nextTick`.
 */
export function settle(): Promise<void> {
  return new Promise((resolve) => realSetImmediate(resolve))
}
