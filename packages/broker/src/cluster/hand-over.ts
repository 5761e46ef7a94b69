// What a broker that stops does first: others come to lead what it leads, a few groups at a time, so that none of them
// waits while all elections of a broker are held at once.
import type { Clock } from '../environment.js'
import { HAND_OVERS_AT_ONCE, TRANSFER_POLL_MS } from '../limits.js'
import type { ReplicaGroup } from '../replication/replica-group.js'
import { mostAdvancedOther } from '../replication/replica-statuses.js'

interface HandOverOptions {
  readonly clock: Clock
  readonly groups: Iterable<ReplicaGroup>
  /** Clients wait for none of these: they come when the others are done, so that no vote for those waits for theirs. */
  readonly isLast: (group: ReplicaGroup) => boolean
  /** Whether clients can be told who leads after this node, which led the group in `term`. */
  readonly isFollowed: (group: ReplicaGroup, term: number) => boolean
}

interface HandOver {
  readonly group: ReplicaGroup
  readonly term: number
}

/** Resolves when others lead, and this node knows who, or after `timeoutMs`. Groups without other voters are left alone. */
export async function handOver(options: HandOverOptions, timeoutMs: number): Promise<void> {
  const { clock, groups, isFollowed, isLast } = options
  const beganMs = clock.monotonicMs()
  const led = [...groups].filter((group) => heirOf(group) !== 0)
  const waiting = led.filter((group) => !isLast(group)).map(handOverOf)
  const last = led.filter(isLast).map(handOverOf)
  const underWay = new Set<HandOver>()
  for (;;) {
    for (const each of underWay) if (isOver(each, isFollowed)) underWay.delete(each)
    const spentMs = clock.monotonicMs() - beganMs
    // Who has waited for half of the time does not wait for the others any more.
    const atOnce = spentMs < timeoutMs / 2 ? HAND_OVERS_AT_ONCE : Number.POSITIVE_INFINITY
    while (waiting.length > 0 && underWay.size < atOnce) underWay.add(waiting.shift()!)
    if (underWay.size === 0 || spentMs >= timeoutMs / 2) for (const each of last.splice(0)) underWay.add(each)
    if (underWay.size === 0 || spentMs >= timeoutMs) return
    for (const { group } of underWay) {
      const heir = heirOf(group)
      // Refused while one is under way: that is waited for.
      if (heir !== 0) group.transferTo(heir)
    }
    await new Promise<void>((resolve) => clock.timer(TRANSFER_POLL_MS, resolve))
  }
}

const handOverOf = (group: ReplicaGroup): HandOver => ({ group, term: group.term })

/** The voter that is farthest; 0 where this node does not lead, or leads alone. */
function heirOf(group: ReplicaGroup): number {
  return group.leads ? mostAdvancedOther(group.core) : 0
}

function isOver({ group, term }: HandOver, isFollowed: HandOverOptions['isFollowed']): boolean {
  return !group.leads && isFollowed(group, term)
}
