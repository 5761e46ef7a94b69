// What must be true of a consumer group, judged by what its members were given: nothing is left out, a partition has one
// owner at a time, and what is committed never goes back. Knows neither broker nor client; tests write such histories by hand.

export interface GroupDelivery {
  readonly member: string
  readonly partition: number
  readonly offset: number
  readonly atMs: number
  /** When the member was told that the partition is its own, for the life of the assignment that this belongs to. */
  readonly assignedAtMs: number
}

export interface GroupHistory {
  /** In the order in which they happened. */
  readonly deliveries: readonly GroupDelivery[]
  /** The offset after the last record of each partition; logs begin at 0. */
  readonly ends: readonly number[]
  /** What the group had committed in each partition when everything had come to rest. */
  readonly committed: readonly number[]
}

export interface GroupViolation {
  readonly invariant: 'group-unseen' | 'double-owner' | 'commit-regress' | 'commit-ahead'
  readonly message: string
}

export function checkGroup(history: GroupHistory): readonly GroupViolation[] {
  return history.ends.flatMap((end, partition) => {
    const deliveries = history.deliveries.filter((delivery) => delivery.partition === partition)
    return [
      ...checkSeen(deliveries, partition, end),
      ...checkOwners(deliveries, partition),
      ...checkStarts(deliveries, partition),
      ...checkEnd(history.committed[partition] ?? 0, partition, end),
    ]
  })
}

/** At least once: every record was given to somebody. */
function* checkSeen(deliveries: readonly GroupDelivery[], partition: number, end: number): Iterable<GroupViolation> {
  const seen = new Set(deliveries.map(({ offset }) => offset))
  for (let offset = 0; offset < end; offset++) {
    if (seen.has(offset)) continue
    yield { invariant: 'group-unseen', message: `nobody was given offset ${offset} of partition ${partition}` }
    return
  }
}

/** Nobody is given anything of a partition that somebody else was given something of since it became his. */
function* checkOwners(deliveries: readonly GroupDelivery[], partition: number): Iterable<GroupViolation> {
  const last = new Map<string, number>()
  for (const { member, offset, atMs, assignedAtMs } of deliveries) {
    for (const [other, otherAtMs] of last) {
      if (other === member || otherAtMs <= assignedAtMs) continue
      const message = `${member} was given offset ${offset} of partition ${partition} at ${atMs} ms, and ${other} something at ${otherAtMs} ms, while it was ${member}'s since ${assignedAtMs} ms`
      yield { invariant: 'double-owner', message }
      return
    }
    last.set(member, atMs)
  }
}

/** Where an assignment begins is what was committed then. */
function* checkStarts(deliveries: readonly GroupDelivery[], partition: number): Iterable<GroupViolation> {
  const begun = new Set<string>()
  let highest = 0
  for (const { member, offset, assignedAtMs } of deliveries) {
    const life = `${member} since ${assignedAtMs} ms`
    if (begun.has(life)) continue
    begun.add(life)
    if (offset < highest) {
      const message = `${life} began partition ${partition} at ${offset}, and somebody before at ${highest}`
      yield { invariant: 'commit-regress', message }
      return
    }
    highest = offset
  }
}

function* checkEnd(committed: number, partition: number, end: number): Iterable<GroupViolation> {
  if (committed <= end) return
  yield { invariant: 'commit-ahead', message: `partition ${partition} ends at ${end}, and ${committed} is committed` }
}
