// Lists of members: how they are written, what is wrong with some, and the id of the cluster that they begin.
import { describe, expect, it } from 'vitest'
import { readArguments, resolveSettings } from '#src/config.js'
import { MAX_MEMBERS } from '#src/limits.js'
import { clusterIdOf, type Member, type MemberSettings, ownMember, readMembers, withOwnAddress } from '#src/members.js'

const THREE: readonly Member[] = [
  { nodeId: 1, host: '10.0.0.1', port: 7420 },
  { nodeId: 2, host: 'broker-2.example', port: 7420 },
  { nodeId: 3, host: 'fd00::3', port: 7421 },
]
const TEXT = '1=10.0.0.1:7420,2=broker-2.example:7420,3=[fd00::3]:7421'

function settings(args: readonly string[], variables: Record<string, string> = {}, file?: unknown) {
  const { flags } = readArguments(args)
  return resolveSettings({
    flags,
    variables,
    file: file === undefined ? null : { path: 'broker.json', text: JSON.stringify(file) },
  })
}

describe('a list of members', () => {
  it('is a text, or an array in a file', () => {
    expect(readMembers(TEXT)).toEqual(THREE)
    expect(readMembers(TEXT.replaceAll(',', ' , '))).toEqual(THREE)
    expect(readMembers(THREE)).toEqual(THREE)
    expect(readMembers(TEXT.split(','))).toEqual(THREE)
    expect(settings(['--members', TEXT, '--node-id=1']).members).toEqual(THREE)
    expect(settings([], { MILLRACE_MEMBERS: TEXT, MILLRACE_NODE_ID: '1' }).members).toEqual(THREE)
    expect(settings([], {}, { members: THREE, nodeId: 1 }).members).toEqual(THREE)
  })

  it.each([
    '',
    ',',
    '1',
    '1=',
    '1=host',
    '1=host:',
    '1=host:0',
    '1=host:65536',
    '0=host:1',
    '4294967295=host:1',
    'x=host:1',
    '1=host:1,',
    '1=host:1;2=host:2',
    '1=fd00::3:7420',
    '1=[host]:1',
    '1=ho st:1',
    '-1=host:1',
    '1=host:1e3',
  ])('is not "%s"', (text) => {
    expect(() => readMembers(text)).toThrow(RangeError)
    const refused = () => settings(['--members', text, '--node-id', '1'])
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }))
    expect(refused).toThrow('--members is')
    expect(refused).toThrow('it can be a list of node ids and addresses, such as 1=10.0.0.1:7420')
  })

  it.each([
    [[]],
    [{}],
    [null],
    [7],
    [[null]],
    [[{ nodeId: 1, host: 'a' }]],
    [[{ nodeId: 1.5, host: 'a', port: 1 }]],
    [[{ nodeId: 1, host: '', port: 1 }]],
    [[{ nodeId: 1, host: 'a,b', port: 1 }]],
    [[{ nodeId: '1', host: 'a', port: 1 }]],
    [[{ nodeId: 1, host: 'a', port: 1, rack: 'x' }]],
  ])('is not %j', (value) => {
    expect(() => readMembers(value)).toThrow(RangeError)
  })
})

describe('this node among its members', () => {
  it('is found by its id, and listens where the list says', () => {
    expect(ownMember({})).toBeNull()
    expect(ownMember({ members: THREE, nodeId: 2 })).toEqual(THREE[1])
    expect(withOwnAddress({ members: THREE, nodeId: 3 })).toMatchObject({
      host: 'fd00::3',
      port: 7421,
      advertisedHost: 'fd00::3',
      advertisedPort: 7421,
    })
    expect(settings(['--members', TEXT, '--node-id', '3'])).toMatchObject({ host: 'fd00::3', port: 7421 })
    expect(settings(['--node-id', '3'])).toMatchObject({ host: '127.0.0.1', port: 7420 })
  })

  it.each<readonly [string, MemberSettings]>([
    ['everywhere', { host: '0.0.0.0' }],
    ['everywhere, by IPv6', { host: '::' }],
    ['at its address', { host: '10.0.0.1', port: 7420 }],
    ['at a name that may be its address', { host: 'broker-1' }],
    ['and says so', { advertisedHost: '10.0.0.1', advertisedPort: 7420 }],
  ])('may listen %s', (_name, more) => {
    const given = { members: THREE, nodeId: 1, ...more }
    expect(withOwnAddress(given)).toMatchObject({ port: 7420, advertisedHost: '10.0.0.1', ...more })
  })

  it('may be on loopback by any of its names', () => {
    const members = [{ nodeId: 1, host: 'localhost', port: 7420 }]
    expect(withOwnAddress({ members, nodeId: 1, host: '127.0.0.1' }).host).toBe('127.0.0.1')
  })

  const twice = (other: Partial<Member>) => [...THREE, { nodeId: 4, host: 'other', port: 7420, ...other }]
  it.each<readonly [string, MemberSettings, string]>([
    ['an id that comes twice', { members: twice({ nodeId: 2 }), nodeId: 1 }, '--members names node 2 twice'],
    [
      'an address that comes twice',
      { members: twice({ host: 'fd00::3', port: 7421 }), nodeId: 1 },
      '--members has [fd00::3]:7421 for node 3 and for node 4',
    ],
    ['no node id', { members: THREE }, 'add --node-id'],
    ['a list without this node', { members: THREE, nodeId: 4 }, '--node-id is 4, and --members names only 1, 2, 3'],
    ['an empty list', { members: [], nodeId: 1 }, 'names 0 nodes'],
    [
      'a list that is too long',
      {
        members: Array.from({ length: MAX_MEMBERS + 1 }, (_, i) => ({ nodeId: i + 1, host: `h${i}`, port: 1 })),
        nodeId: 1,
      },
      `it can be from 1 to ${MAX_MEMBERS}`,
    ],
    ['another port', { members: THREE, nodeId: 1, port: 7421 }, '--port is 7421, and --members has 10.0.0.1:7420'],
    ['a free port', { members: THREE, nodeId: 1, port: 0 }, '--port is 0'],
    ['another address', { members: THREE, nodeId: 1, host: '10.0.0.9' }, '--host is 10.0.0.9, and --members has'],
    ['loopback, which others cannot reach', { members: THREE, nodeId: 2, host: '127.0.0.1' }, '--host is 127.0.0.1'],
    ['another advertised host', { members: THREE, nodeId: 1, advertisedHost: 'x' }, '--advertise is x:7420'],
    ['another advertised port', { members: THREE, nodeId: 1, advertisedPort: 1 }, '--advertise is 10.0.0.1:1'],
  ])('is refused with %s', (_name, given, message) => {
    expect(() => ownMember(given)).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }))
    expect(() => ownMember(given)).toThrow(message)
  })

  it('does not advertise something else', () => {
    const refused = () => settings(['--members', TEXT, '--node-id', '1', '--advertise', '10.0.0.1:7420'])
    expect(refused).toThrow(expect.objectContaining({ code: 'INVALID_CONFIG' }))
    expect(refused).toThrow('leave --advertise out')
    expect(() => settings(['--members', TEXT, '--node-id', '1', '--port', '7420'])).not.toThrow()
    expect(() => settings(['--members', TEXT, '--node-id', '1', '--port', '7000'])).toThrow('--port is 7000')
  })
})

describe('the id of a new cluster', () => {
  it('is the same on every member, whatever the order', () => {
    const id = clusterIdOf(THREE)
    expect(id).toMatch(/^[0-9a-f]{32}$/)
    for (const order of [
      [2, 1, 0],
      [1, 0, 2],
      [2, 0, 1],
    ])
      expect(clusterIdOf(order.map((i) => THREE[i]!))).toBe(id)
  })

  it('stays what it was in earlier versions', () => {
    expect(clusterIdOf(THREE)).toBe('d0295fc80cee74c225db88f7d44dc061')
    expect(clusterIdOf([{ nodeId: 1, host: '127.0.0.1', port: 7420 }])).toBe('edfb689ae06c3a84837bf2710467dcb3')
  })

  it('differs as soon as a member does', () => {
    const others = [
      THREE.slice(0, 2),
      [...THREE, { nodeId: 4, host: 'x', port: 1 }],
      ...THREE.map((member) => THREE.map((one) => (one === member ? { ...one, port: one.port + 1 } : one))),
      ...THREE.map((member) => THREE.map((one) => (one === member ? { ...one, host: `${one.host}0` } : one))),
      ...THREE.map((member) => THREE.map((one) => (one === member ? { ...one, nodeId: one.nodeId + 3 } : one))),
    ]
    const ids = [THREE, ...others].map(clusterIdOf)
    expect(new Set(ids).size).toBe(ids.length)
  })
})
