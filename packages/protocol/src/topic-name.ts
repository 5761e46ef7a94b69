// The rules for names of topics and consumer groups, the same in client and broker.
import { ProtocolError } from './errors.js'
import { MAX_TOPIC_NAME_LENGTH } from './limits.js'

/** @throws ProtocolError INVALID_TOPIC_NAME. Path-like names are refused although no file is ever named after a topic. */
export function checkTopicName(name: string): void {
  if (typeof name !== 'string' || name.length === 0) throw new ProtocolError('INVALID_TOPIC_NAME', 'the name is empty')
  if (name.length > MAX_TOPIC_NAME_LENGTH) {
    throw new ProtocolError('INVALID_TOPIC_NAME', `the name has ${name.length} characters`)
  }
  if (!/^[A-Za-z0-9._-]+$/.test(name) || name === '.' || name === '..') {
    throw new ProtocolError('INVALID_TOPIC_NAME', `${JSON.stringify(name)} is not a topic name`)
  }
}

/** Where the coordinators of consumer groups keep their logs: the leader of a partition is the coordinator of its groups. */
export const GROUPS_TOPIC = '__groups'

/** Names that begin so are the brokers' own: nobody else creates, changes or writes topics of such a name. */
export const isReservedTopicName = (name: string): boolean => name.startsWith('__')

/** @throws ProtocolError INVALID_REQUEST. The rule of topic names, for consumer groups and for the names of their members. */
export function checkGroupName(name: string, what = 'group'): void {
  try {
    checkTopicName(name)
  } catch (cause) {
    if (!(cause instanceof ProtocolError)) throw cause
    const detail = `${cause.detail}; the name of a ${what} has 1 to ${MAX_TOPIC_NAME_LENGTH} characters of A-Z a-z 0-9 . _ -`
    throw new ProtocolError('INVALID_REQUEST', detail, { cause })
  }
}
