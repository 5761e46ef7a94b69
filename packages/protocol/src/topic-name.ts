// The rule for topic names, the same in client and broker.
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
