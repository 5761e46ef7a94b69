// How messages and effects read in a scenario.
import type { Configuration, Effect } from '#src/raft/raft-types.js'
import type { TestEntry, TestMessage } from './model-node.js'

/** Empty for effects that a scenario does not show. */
export function describeEffect(effect: Effect<TestEntry>): string {
  switch (effect.kind) {
    case 'send':
      return describeMessage(effect.message)
    case 'role': {
      const leader = effect.leader === 0 ? '' : ` of ${effect.leader}`
      return `${effect.role}${effect.role === 'follower' ? leader : ''} in term ${effect.term}`
    }
    case 'commit':
      return `commits ${effect.index}`
    case 'truncate':
      return `cuts above ${effect.lastIndex}`
    case 'install':
      return `begins anew at ${effect.start.index}`
    case 'readReady':
      return `read ${effect.read} at ${effect.index}`
    case 'readRefused':
      return `read ${effect.read} refused`
    case 'leaveJoint':
      return `ends the change with ${describeConfiguration(effect.configuration)}`
    case 'transferAborted':
      return `transfer to ${effect.to} aborted`
    case 'repaired':
      return 'repaired'
    case 'rest':
      return `offers ${effect.follower} rest at ${effect.index}/${effect.term}`
    case 'wake':
      return `wakes ${effect.isLed ? 'its follower' : 'from its leader'} ${effect.peer}`
    default:
      return ''
  }
}

export function describeMessage(message: TestMessage): string {
  const head = `${message.from}>${message.to} ${message.kind} term ${message.term}`
  switch (message.kind) {
    case 'preVote':
    case 'vote':
      return `${head} last ${message.lastIndex}/${message.lastTerm}${message.isTransfer ? ' transfer' : ''}`
    case 'preVoteReply':
    case 'voteReply':
      return `${head} ${message.granted ? 'granted' : 'refused'}${message.isRepairing ? ' repairing' : ''}`
    case 'append': {
      const entries = message.entries.map(({ term }) => term).join(' ')
      return `${head} after ${message.previousIndex}/${message.previousTerm} [${entries}] commit ${message.commit} round ${message.round}`
    }
    case 'appendReply': {
      const place = message.agrees ? `agrees to ${message.index}` : `look at ${message.index}/${message.indexTerm}`
      return `${head} ${place} last ${message.lastIndex} round ${message.round}`
    }
    case 'install':
      return `${head} start ${message.start.index}/${message.start.previousTerm}`
    default:
      return head
  }
}

export function describeConfiguration({ voters, outgoing, learners }: Configuration): string {
  const parts = [`voters ${voters.length === 0 ? 'none' : voters.join(' ')}`]
  if (outgoing.length > 0) parts.push(`leaving ${outgoing.join(' ')}`)
  if (learners.length > 0) parts.push(`learners ${learners.join(' ')}`)
  return parts.join(' / ')
}
