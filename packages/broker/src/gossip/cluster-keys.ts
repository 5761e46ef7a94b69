// The key of the cluster as operators write it: a file with one key a line, `<id> <64 hexadecimal digits>`, two at most, the
// one that is sealed with first; `#` begins a comment. Where there is no file, a key that everybody can know.
import { assert } from '@millrace/protocol'
import type { GossipKey } from './keyring.js'

const SECRET_BYTES = 32
const MAX_KEYS = 2
/** Of the key that is no secret; a file cannot have it. */
const OPEN_KEY_ID = 0xffff_ffff

/**
 * What gossip is sealed with where no key is given: it keeps clusters apart and shows what was damaged on its way, and keeps
 * nobody out. @param clusterId 32 hexadecimal digits.
 */
export function openKey(clusterId: string): GossipKey {
  assert(/^[0-9a-f]{32}$/.test(clusterId), 'the id of a cluster')
  const secret = new Uint8Array(SECRET_BYTES)
  for (let at = 0; at < 16; at++) {
    const byte = Number.parseInt(clusterId.slice(2 * at, 2 * at + 2), 16)
    secret[at] = byte
    secret[at + 16] = byte ^ 0xff
  }
  return { id: OPEN_KEY_ID, secret }
}

/** @throws RangeError that says what is accepted, and never what the file holds. */
export function readClusterKeys(text: string): readonly GossipKey[] {
  const lines = text.split('\n').map((line) => line.replace(/#.*/, '').trim())
  const keys = lines.filter((line) => line !== '').map(keyOf)
  if (keys.length === 0 || keys.length > MAX_KEYS) throw new RangeError(`one key or two, not ${keys.length}`)
  if (new Set(keys.map(({ id }) => id)).size < keys.length) throw new RangeError('keys with ids of their own')
  return keys
}

function keyOf(line: string): GossipKey {
  const match = /^(\d{1,10})\s+([0-9a-fA-F]{64})$/.exec(line)
  const id = Number(match?.[1])
  if (match === null || id < 1 || id >= OPEN_KEY_ID) {
    throw new RangeError('lines of an id from 1 and 64 hexadecimal digits, such as those of openssl rand -hex 32')
  }
  const secret = Uint8Array.from({ length: SECRET_BYTES }, (_, at) => {
    return Number.parseInt(match[2]!.slice(2 * at, 2 * at + 2), 16)
  })
  return { id, secret }
}
