// The way from the members a group has to those that it is to have: new ones listen first, and become voters together.
import { isJoint } from '../raft/configuration.js'
import type { Membership } from '../raft/membership.js'
import type { Configuration, NodeId } from '../raft/raft-types.js'

/**
 * The next change for the leader to propose. It may be refused while a learner has not caught up: then it is asked for again.
 * @param target voters in the end, each once.
 * @param mayAdd whether the group may have new learners now.
 * @returns null when there is nothing to do, or nothing now.
 */
export function nextChange(
  target: readonly NodeId[],
  configuration: Configuration,
  mayAdd: boolean,
): Membership | null {
  if (isJoint(configuration)) return null
  const { voters, learners } = configuration
  const missing = target.filter((nodeId) => !voters.includes(nodeId) && !learners.includes(nodeId))
  const kept = learners.filter((nodeId) => target.includes(nodeId))
  const added = mayAdd ? missing : []
  if (added.length > 0 || kept.length < learners.length) return { voters, learners: [...kept, ...added] }
  if (missing.length > 0 || isAtTarget(target, configuration)) return null
  return { voters: target, learners: [] }
}

/** Whether the group is as it is to be, whatever the order. */
export function isAtTarget(target: readonly NodeId[], { voters, outgoing, learners }: Configuration): boolean {
  const hasAll = voters.length === target.length && target.every((nodeId) => voters.includes(nodeId))
  return hasAll && outgoing.length === 0 && learners.length === 0
}
