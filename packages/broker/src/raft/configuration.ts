// Who counts: quorums over a configuration, which while a change is under way are needed in both of its sets.
// Source: dissertation, 4.3 (joint consensus).
import type { Configuration, NodeId } from './raft-types.js'

export function isVoter(configuration: Configuration, nodeId: NodeId): boolean {
  return configuration.voters.includes(nodeId) || configuration.outgoing.includes(nodeId)
}

export function isJoint(configuration: Configuration): boolean {
  return configuration.outgoing.length > 0
}

/** Everyone who gets the log, each once. */
export function membersOf(configuration: Configuration): NodeId[] {
  const { voters, outgoing, learners } = configuration
  // As nearly always: thousands of groups ask with each message.
  if (outgoing.length + learners.length === 0) return [...voters]
  return [...new Set([...voters, ...outgoing, ...learners])]
}

/** Everyone who is asked for a vote, each once. */
export function votersOf(configuration: Configuration): NodeId[] {
  const { voters, outgoing } = configuration
  return outgoing.length === 0 ? [...voters] : [...new Set([...voters, ...outgoing])]
}

/** Whether this node decides everything alone. */
export function isSoleVoter(configuration: Configuration, nodeId: NodeId): boolean {
  return isOnly(configuration.voters, nodeId) && !isJoint(configuration)
}

/** Whether a list of nodes is this node alone. */
export function isOnly(nodes: readonly NodeId[], nodeId: NodeId): boolean {
  return nodes.length === 1 && nodes[0] === nodeId
}

/** Whether a majority of each set holds to `holds`. A set of nobody never does. */
export function hasQuorum(configuration: Configuration, holds: (nodeId: NodeId) => boolean): boolean {
  return (
    hasMajority(configuration.voters, holds) && (!isJoint(configuration) || hasMajority(configuration.outgoing, holds))
  )
}

function hasMajority(nodes: readonly NodeId[], holds: (nodeId: NodeId) => boolean): boolean {
  let count = 0
  for (const nodeId of nodes) if (holds(nodeId)) count++
  return count * 2 > nodes.length
}

/** The highest value that a quorum has reached; 0 where there is nobody. */
export function quorumValue(configuration: Configuration, reached: (nodeId: NodeId) => number): number {
  const incoming = majorityValue(configuration.voters, reached)
  return isJoint(configuration) ? Math.min(incoming, majorityValue(configuration.outgoing, reached)) : incoming
}

// Groups are small: counting for each value costs less than a sorted copy.
function majorityValue(nodes: readonly NodeId[], reached: (nodeId: NodeId) => number): number {
  let best = 0
  for (const candidate of nodes) {
    const value = reached(candidate)
    if (value <= best) continue
    let count = 0
    for (const nodeId of nodes) if (reached(nodeId) >= value) count++
    if (count * 2 > nodes.length) best = value
  }
  return best
}
