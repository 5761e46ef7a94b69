// The file of keys, and the key of clusters that have none.
import { describe, expect, test } from 'vitest'
import { openKey, readClusterKeys } from '#src/gossip/cluster-keys.js'
import { Keyring } from '#src/gossip/keyring.js'

const HEX = '0123456789abcdef'.repeat(4)
const OTHER = 'ff'.repeat(32)

describe('a file of keys', () => {
  test('has one or two, the one in use first, with comments and space', () => {
    const keys = readClusterKeys(`# drawn in spring\n\n  7   ${HEX}  # the new one\n3 ${OTHER.toUpperCase()}\n`)
    expect(keys.map(({ id }) => id)).toEqual([7, 3])
    expect(keys[0]!.secret.slice(0, 3)).toEqual(Uint8Array.of(0x01, 0x23, 0x45))
    expect(keys[1]!.secret).toEqual(new Uint8Array(32).fill(0xff))
  })

  test.each([
    ['nothing', '# only words\n', 'one key or two, not 0'],
    ['three', `1 ${HEX}\n2 ${HEX}\n3 ${HEX}\n`, 'one key or two, not 3'],
    ['one id twice', `1 ${HEX}\n1 ${OTHER}\n`, 'keys with ids of their own'],
    ['a short secret', `1 ${HEX.slice(2)}\n`, 'lines of an id'],
    ['no id', `${HEX}\n`, 'lines of an id'],
    ['the id 0', `0 ${HEX}\n`, 'lines of an id'],
    ['the id of the open key', `4294967295 ${HEX}\n`, 'lines of an id'],
  ])('with %s is refused, and shows nothing of a secret', (_what, text, reason) => {
    expect(() => readClusterKeys(text)).toThrow(reason)
    expect(() => readClusterKeys(text)).not.toThrow(HEX.slice(2, 20))
  })
})

describe('a cluster without keys', () => {
  test('has one of its own that no other cluster has', () => {
    const [one, two] = [openKey('0a'.repeat(16)), openKey('0b'.repeat(16))]
    expect(one).toEqual(openKey('0a'.repeat(16)))
    expect(one.secret).not.toEqual(two.secret)
    expect(new Keyring([one]).used.secret).toHaveLength(32)
  })
})

describe('keys that replace others', () => {
  const key = (id: number, fill: number) => ({ id, secret: new Uint8Array(32).fill(fill) })

  test('are used from then on, the first one to seal', () => {
    const ring = new Keyring([key(1, 1)])
    ring.replace([key(2, 2), key(1, 1)])
    expect([ring.used.id, ring.ids]).toEqual([2, [2, 1]])
    ring.replace([key(3, 3), key(4, 4)])
    expect([ring.used.id, ring.find(1)]).toEqual([3, undefined])
  })

  test('cannot say something else under an id in use, and then nothing changes', () => {
    const ring = new Keyring([key(1, 1), key(2, 2)])
    expect(() => ring.replace([key(3, 3), key(2, 9)])).toThrow('another key has the id 2')
    expect(() => ring.replace([key(3, 3), key(4, 4), key(5, 5)])).toThrow('are installed')
    expect([ring.used.id, ring.ids]).toEqual([1, [1, 2]])
  })
})
