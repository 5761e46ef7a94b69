// Who is to have which partition: evenly within each topic, evenly over all topics as far as that goes, and with as few
// partitions moved as that takes. The same input gives the same answer everywhere.

export const NOBODY = -1

/** One topic of a group. Members go by their place in the group, in the order they joined. */
export interface TopicSpread {
  /** The members that want the topic, ascending. */
  readonly wanting: readonly number[]
  /** For each partition who is to have it, or NOBODY; changed in place. */
  readonly future: Int32Array
  /** Who has it now, or NOBODY. */
  readonly current: Int32Array
  /** 1 where the one who is to have it has it and goes on with it: moving it interrupts somebody. */
  readonly settled: Uint8Array
}

/** Counts of one topic, for each position in `wanting`. */
interface Plan {
  readonly topic: TopicSpread
  readonly base: number
  /** So many members have one more than `base`. */
  readonly extra: number
  /** Partitions that a member has and goes on with. */
  readonly kept: Int32Array
  /** Those, and what it was promised. */
  readonly load: Int32Array
  readonly target: Int32Array
}

/**
 * Gives every partition a future owner, as long as anybody wants its topic.
 *
 * Invariant: afterwards the counts of a topic's members differ by at most 1. A partition that somebody goes on with is moved
 * only if its owner has more than its share; when `levels` is set, also from a member that has at least two more than
 * another over all topics. Where nobody has more than his share (somebody has left, a topic has grown) nothing is moved.
 */
export function spread(topics: readonly TopicSpread[], memberCount: number, levels: boolean): void {
  const positions = new Int32Array(memberCount).fill(NOBODY)
  const totals = new Int32Array(memberCount)
  const plans = topics
    .filter((topic) => clearUnwanted(topic, positions, totals))
    .map((topic) => countShares(topic, positions))
  for (const plan of plans) chooseTargets(plan, totals)
  // First from those above the average to those below it: nothing goes by way of a third. Then whatever still helps.
  const average = Math.ceil(totals.reduce((sum, total) => sum + total, 0) / memberCount)
  for (const least of [average, average - 1, 0]) {
    // Ends: each exchange makes the sum of the squares of all totals smaller.
    let isLevel = false
    while (!isLevel) {
      isLevel = true
      for (const plan of plans) if (exchange(plan, totals, levels, least)) isLevel = false
    }
  }
  for (const plan of plans) carryOut(plan, positions)
}

/** @returns false when nobody wants the topic. */
function clearUnwanted({ wanting, future, settled }: TopicSpread, positions: Int32Array, totals: Int32Array): boolean {
  mark(positions, wanting)
  for (let partition = 0; partition < future.length; partition++) {
    const place = future[partition]!
    if (place === NOBODY) continue
    if (positions[place] === NOBODY) {
      future[partition] = NOBODY
      settled[partition] = 0
    } else totals[place]!++
  }
  unmark(positions, wanting)
  return wanting.length > 0
}

function countShares(topic: TopicSpread, positions: Int32Array): Plan {
  const { wanting, future, settled } = topic
  const base = Math.floor(future.length / wanting.length)
  const kept = new Int32Array(wanting.length)
  const load = new Int32Array(wanting.length)
  mark(positions, wanting)
  for (let partition = 0; partition < future.length; partition++) {
    const place = future[partition]!
    if (place === NOBODY) continue
    const position = positions[place]!
    load[position]!++
    if (settled[partition] === 1) kept[position]!++
  }
  unmark(positions, wanting)
  const target = new Int32Array(wanting.length).fill(base)
  return { topic, base, extra: future.length % wanting.length, kept, load, target }
}

/** Those who have more than the base keep one more of it first; then those who have the least of all topics get one. */
function chooseTargets({ topic: { wanting }, base, extra, kept, load, target }: Plan, totals: Int32Array): void {
  const claim = (position: number): number => (kept[position]! > base ? 2 : load[position]! > base ? 1 : 0)
  const claiming = positionsOf(wanting, (position) => load[position]! > base)
  // Nothing is to be chosen where as many have more as are to have more.
  const chosen =
    claiming.length === extra
      ? claiming
      : [...wanting.keys()]
          .sort(
            (one, other) =>
              claim(other) - claim(one) || totals[wanting[one]!]! - totals[wanting[other]!]! || one - other,
          )
          .slice(0, extra)
  for (const position of chosen) target[position]!++
  for (let position = 0; position < wanting.length; position++) {
    totals[wanting[position]!]! += target[position]! - load[position]!
  }
}

/**
 * One more goes from members that have much of all topics to some that have at least two less.
 * @param interrupts whether one that is being read may go.
 * @param middle where it is above 0, only from members that have more to members that have less than that.
 * @returns whether any went.
 */
function exchange(
  { topic: { wanting }, base, extra, kept, target }: Plan,
  totals: Int32Array,
  interrupts: boolean,
  middle: number,
): boolean {
  if (extra === 0) return false
  const isKept = (position: number): number => (kept[position]! > base ? 1 : 0)
  const total = (position: number): number => totals[wanting[position]!]!
  const mayGive = (position: number): boolean =>
    target[position]! > base && total(position) > middle && (interrupts || isKept(position) === 0)
  const mayTake = (position: number): boolean => target[position] === base && (middle <= 0 || total(position) < middle)
  if (!isUneven(wanting.length, total, mayGive, mayTake)) return false
  const givers = positionsOf(wanting, mayGive).sort(
    (one, other) => total(other) - total(one) || isKept(one) - isKept(other) || one - other,
  )
  const takers = positionsOf(wanting, mayTake).sort((one, other) => total(one) - total(other) || one - other)
  for (let at = 0; at < Math.min(givers.length, takers.length); at++) {
    const [giver, taker] = [givers[at]!, takers[at]!]
    if (total(giver) - total(taker) < 2) break
    target[giver]!--
    target[taker]!++
    totals[wanting[giver]!]!--
    totals[wanting[taker]!]!++
  }
  return true
}

/** Whether anybody who may give has at least two more than somebody who may take: seldom, and found without sorting. */
function isUneven(
  length: number,
  total: (position: number) => number,
  mayGive: (position: number) => boolean,
  mayTake: (position: number) => boolean,
): boolean {
  let most = Number.NEGATIVE_INFINITY
  let least = Number.POSITIVE_INFINITY
  for (let position = 0; position < length; position++) {
    if (mayGive(position)) most = Math.max(most, total(position))
    else if (mayTake(position)) least = Math.min(least, total(position))
  }
  return most - least >= 2
}

function positionsOf(wanting: readonly number[], test: (position: number) => boolean): number[] {
  const positions: number[] = []
  for (let position = 0; position < wanting.length; position++) if (test(position)) positions.push(position)
  return positions
}

function carryOut({ topic, load, target }: Plan, positions: Int32Array): void {
  const { wanting, future, current, settled } = topic
  mark(positions, wanting)
  const missing = target.map((count, position) => count - load[position]!)
  // What is only promised is given up first.
  for (const isSettled of [0, 1]) {
    for (let partition = future.length - 1; partition >= 0; partition--) {
      const place = future[partition]!
      if (place === NOBODY || settled[partition] !== isSettled || missing[positions[place]!]! >= 0) continue
      future[partition] = NOBODY
      missing[positions[place]!]!++
    }
  }
  // Whoever is about to let go of a partition and lacks one keeps it in the end.
  for (let partition = 0; partition < future.length; partition++) {
    const place = current[partition]!
    if (future[partition] !== NOBODY || place === NOBODY) continue
    const position = positions[place]!
    if (position === NOBODY || missing[position]! <= 0) continue
    future[partition] = place
    missing[position]!--
  }
  let position = 0
  for (let partition = 0; partition < future.length; partition++) {
    if (future[partition] !== NOBODY) continue
    while (missing[position] === 0) position++
    future[partition] = wanting[position]!
    missing[position]!--
  }
  unmark(positions, wanting)
}

function mark(positions: Int32Array, wanting: readonly number[]): void {
  for (let position = 0; position < wanting.length; position++) positions[wanting[position]!] = position
}

function unmark(positions: Int32Array, wanting: readonly number[]): void {
  for (const place of wanting) positions[place] = NOBODY
}
