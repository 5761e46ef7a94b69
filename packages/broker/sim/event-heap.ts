// What is due in virtual time, the earliest first; what is due at the same moment in the order in which it was scheduled.

export interface DueEvent {
  readonly atMs: number
  readonly sequence: number
}

/** A binary heap (Williams 1964). */
export class EventHeap<T extends DueEvent> {
  private readonly events: T[] = []

  /** The earliest; undefined when nothing is due. */
  get first(): T | undefined {
    return this.events[0]
  }

  push(event: T): void {
    const { events } = this
    let at = events.length
    events.push(event)
    while (at > 0) {
      const parent = (at - 1) >> 1
      if (!isBefore(event, events[parent]!)) break
      events[at] = events[parent]!
      at = parent
    }
    events[at] = event
  }

  /** Takes the earliest; undefined when nothing is due. */
  pop(): T | undefined {
    const { events } = this
    const first = events[0]
    const last = events.pop()
    if (last === undefined || events.length === 0) return first
    let at = 0
    for (;;) {
      let child = at * 2 + 1
      if (child >= events.length) break
      if (child + 1 < events.length && isBefore(events[child + 1]!, events[child]!)) child++
      if (!isBefore(events[child]!, last)) break
      events[at] = events[child]!
      at = child
    }
    events[at] = last
    return first
  }
}

function isBefore(left: DueEvent, right: DueEvent): boolean {
  return left.atMs < right.atMs || (left.atMs === right.atMs && left.sequence < right.sequence)
}
