// What a broker remembers of the others: read as it was written, and refused when it was changed.
import { describe, expect, it } from 'vitest'
import { ClusterMembers } from '#src/cluster/cluster-members.js'
import type { NodeRecord } from '#src/cluster/node-registry.js'
import { DiskError } from '#src/environment.js'
import { readAddresses } from '#src/joining/addresses.js'
import { MEMBERS_FILE, readMembersFile, writeMembersFile } from '#src/joining/members-file.js'
import { MembersMemory } from '#src/joining/members-memory.js'
import { StartError } from '#src/start-error.js'

class SmallFiles {
  readonly directory = '/data'
  readonly files = new Map<string, Uint8Array>()
  writes = 0
  failure: Error | null = null
  async readSmall(name: string): Promise<Uint8Array | null> {
    return this.files.get(name) ?? null
  }
  async writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    if (this.failure !== null) throw this.failure
    this.writes++
    this.files.set(name, bytes)
  }
}

const member = (nodeId: number, port = 7420) => ({ nodeId, host: `10.0.0.${nodeId}`, port })
const record = (nodeId: number, changes: Partial<NodeRecord> = {}): NodeRecord => ({
  ...member(nodeId),
  diskId: `${nodeId}`.repeat(32),
  rack: null,
  shards: 2,
  state: 'active',
  ...changes,
})
const REMEMBERED = { joiningDisk: 'a'.repeat(32), founders: [], members: [member(1), member(2)], removed: [3] }
const settle = () => new Promise((resolve) => setImmediate(resolve))

describe('the list of members on disk', () => {
  it('is read as it was written', async () => {
    const volume = new SmallFiles()
    expect(await readMembersFile(volume)).toBeNull()
    await writeMembersFile(volume, REMEMBERED)
    expect(await readMembersFile(volume)).toEqual(REMEMBERED)
  })

  it.each([
    ['changed', (text: string) => text.replace('7420', '7421'), 'was changed or damaged'],
    ['cut off', (text: string) => text.slice(0, 20), 'is not JSON'],
    ['something else', () => '7', 'does not make sense'],
    ['of a later version', (text: string) => text.replace('"format":1', '"format":2'), 'newer version'],
  ])('is refused when it is %s', async (_how, change, message) => {
    const volume = new SmallFiles()
    await writeMembersFile(volume, REMEMBERED)
    const text = new TextDecoder().decode(volume.files.get(MEMBERS_FILE))
    volume.files.set(MEMBERS_FILE, new TextEncoder().encode(change(text)))
    const refused = readMembersFile(volume)
    await expect(refused).rejects.toThrow(message)
    await expect(refused).rejects.toBeInstanceOf(StartError)
  })

  it('is written when it changes, and never for a broker that is alone', async () => {
    const volume = new SmallFiles()
    const errors: string[] = []
    const log = { debug() {}, info() {}, warn() {}, error: (_: unknown, message: string) => void errors.push(message) }
    const members = new ClusterMembers({ nodeId: 1, configured: [], remembered: [], removed: [], shards: 1 })
    const memory = new MembersMemory(volume, members, { founders: [1], remembered: null, log })
    const refresh = async () => {
      memory.refresh()
      await settle()
    }
    members.putSelf(member(1))
    await refresh()
    expect(volume.writes).toBe(0)
    members.update([record(1), record(2)])
    await refresh()
    await refresh()
    expect(volume.writes).toBe(1)
    expect(await readMembersFile(volume)).toMatchObject({ founders: [1], members: [member(1), member(2)], removed: [] })
    members.update([record(1), record(2, { state: 'removed' })])
    volume.failure = new DiskError('NO_SPACE', 'the disk is full')
    await refresh()
    expect(errors).toEqual(['the list of brokers could not be written: a restart may not find all of them'])
    volume.failure = null
    await refresh()
    expect(await readMembersFile(volume)).toMatchObject({ members: [member(1)], removed: [2] })
  })
})

describe('the members of a cluster', () => {
  const begin = (changes: object = {}) =>
    new ClusterMembers({ nodeId: 1, configured: [], remembered: [], removed: [], shards: 4, ...changes })

  it('are those of the registry that can be reached, and never one that was removed', () => {
    const members = begin()
    members.putSelf(member(1))
    expect(
      members.update([record(1), record(2), record(3, { host: '', port: 0 }), record(4, { state: 'removed' })]),
    ).toBe(true)
    expect(members.list().map(({ nodeId, shardCount }) => [nodeId, shardCount])).toEqual([
      [1, 4],
      [2, 2],
    ])
    expect(members.removed).toEqual([4])
    expect(members.update([record(1), record(2), record(4)])).toBe(false)
    expect(members.others.map(({ nodeId }) => nodeId)).toEqual([2])
  })

  it('are reached where the operator says, then where the registry says, then where they were', () => {
    const members = begin({ configured: [member(2, 1)], remembered: [member(2, 9), member(3, 9), member(4, 9)] })
    members.update([record(2, { port: 2 }), record(3, { port: 2 })])
    expect(members.others.map(({ nodeId, port }) => [nodeId, port])).toEqual([
      [2, 1],
      [3, 2],
      [4, 9],
    ])
  })
})

describe('addresses to join', () => {
  it('are read from texts and lists', () => {
    const both = [
      { host: '10.0.0.1', port: 7420 },
      { host: 'fd00::2', port: 7421 },
    ]
    expect(readAddresses('10.0.0.1:7420, [fd00::2]:7421')).toEqual(both)
    expect(readAddresses(['10.0.0.1:7420', '[fd00::2]:7421'])).toEqual(both)
  })

  it.each(['', 'host', 'host:0', 'host:70000', '1=host:7420', 7, [7]])('are not %j', (value) => {
    expect(() => readAddresses(value)).toThrow(RangeError)
  })
})
