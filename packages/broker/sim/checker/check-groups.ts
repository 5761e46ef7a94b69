// What must be true of a consumer group, judged by what its members were given and did with it: nothing is left out, a partition
// has one owner at a time, an owner works on each key in order, and what is committed never goes back. Knows neither broker
// nor client; tests write such histories by hand.
import { checkGroupWork } from './check-group-work.js'
import { type GroupDelivery, type GroupHistory, type GroupViolation, nameOfLife } from './group-history.js'

export function checkGroup(history: GroupHistory): readonly GroupViolation[] {
  return history.ends.flatMap((end, partition) => {
    const deliveries = history.deliveries.filter((delivery) => delivery.partition === partition)
    const work = history.work.filter((step) => step.partition === partition)
    return [
      ...checkSeen(deliveries, partition, end),
      ...checkOwners(deliveries, partition),
      ...checkStarts(deliveries, partition),
      ...checkSteps(deliveries),
      ...checkGroupWork(work, partition, end),
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
  for (const { member, offset, atMs, assignedAtMs, isReplaced } of deliveries) {
    if (isReplaced === true) continue
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
  for (const delivery of deliveries) {
    const { offset } = delivery
    const life = nameOfLife(delivery)
    if (begun.has(life)) continue
    begun.add(life)
    if (offset < highest) {
      const message = `${life}, began partition ${partition} at ${offset}, and somebody before at ${highest}`
      yield { invariant: 'commit-regress', message }
      return
    }
    highest = offset
  }
}

/** An owner is given one record after the other, none twice. */
function* checkSteps(deliveries: readonly GroupDelivery[]): Iterable<GroupViolation> {
  const last = new Map<string, number>()
  for (const delivery of deliveries) {
    const { offset, atMs } = delivery
    const life = nameOfLife(delivery)
    const before = last.get(life)
    last.set(life, offset)
    if (before === undefined || offset === before + 1) continue
    const invariant = offset > before ? 'group-skip' : 'group-repeat'
    yield { invariant, message: `${life}, was given ${offset} at ${atMs} ms after ${before}` }
    return
  }
}

function* checkEnd(committed: number, partition: number, end: number): Iterable<GroupViolation> {
  if (committed <= end) return
  yield { invariant: 'commit-ahead', message: `partition ${partition} ends at ${end}, and ${committed} is committed` }
}
