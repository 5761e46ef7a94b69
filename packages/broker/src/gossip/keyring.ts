// The keys of a cluster that gossip is sealed with. A key is changed in three steps, each done on all nodes before the next
// one: install (can be opened), use (is sealed with), remove. So any two nodes understand each other in between.
import { assert } from '@millrace/protocol'
import { GossipError } from './gossip-error.js'

const SECRET_BYTES = 32
const MAX_KEYS = 2

export interface GossipKey {
  /** Given by whoever draws the key, from 1; stands in every datagram. */
  readonly id: number
  /** 32 bytes that nobody outside the cluster knows. */
  readonly secret: Uint8Array
}

export class Keyring {
  private readonly keys = new Map<number, GossipKey>()
  private usedId: number

  /** @param keys one or two; the first one is used. */
  constructor(keys: readonly GossipKey[]) {
    const [first] = keys
    assert(first !== undefined, 'a keyring has a key')
    this.usedId = first.id
    for (const key of keys) this.install(key)
  }

  /** What this node seals with. */
  get used(): GossipKey {
    return this.keys.get(this.usedId)!
  }

  get ids(): readonly number[] {
    return [...this.keys.keys()]
  }

  find(id: number): GossipKey | undefined {
    return this.keys.get(id)
  }

  /** From now on what is sealed with it can be opened. @throws GossipError KEY */
  install({ id, secret }: GossipKey): void {
    if (secret.byteLength !== SECRET_BYTES || !(Number.isInteger(id) && id > 0 && id <= 0xffff_ffff)) {
      throw new GossipError(
        'KEY',
        `a key has ${SECRET_BYTES} bytes and an id from 1, not ${secret.byteLength} and ${id}`,
      )
    }
    const known = this.keys.get(id)
    if (known !== undefined) {
      if (known.secret.every((byte, at) => byte === secret[at])) return
      throw new GossipError('KEY', `another key has the id ${id}: give the new one an id of its own`)
    }
    if (this.keys.size >= MAX_KEYS) {
      throw new GossipError('KEY', `the keys ${this.ids.join(' and ')} are installed: remove the older one first`)
    }
    this.keys.set(id, { id, secret: secret.slice() })
  }

  /** From now on this node seals with it. @throws GossipError KEY */
  use(id: number): void {
    if (!this.keys.has(id))
      throw new GossipError('KEY', `the key ${id} is not installed: install it on all nodes first`)
    this.usedId = id
  }

  /** From now on these are the keys, and the first one is used. @throws GossipError KEY, and then nothing has changed. */
  replace(keys: readonly GossipKey[]): void {
    const next = new Keyring(keys)
    for (const key of keys) {
      const known = this.keys.get(key.id)
      if (known !== undefined) next.install(known)
    }
    this.keys.clear()
    for (const key of keys) this.keys.set(key.id, { id: key.id, secret: key.secret.slice() })
    this.usedId = next.usedId
  }

  /** From now on what is sealed with it is refused. @throws GossipError KEY */
  remove(id: number): void {
    if (id === this.usedId) throw new GossipError('KEY', `the key ${id} is in use: use another one on all nodes first`)
    this.keys.delete(id)
  }
}
