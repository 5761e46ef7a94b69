// A broker that joins: the same disk asks however often the start is interrupted, and it never takes itself for a cluster.
import { describe, expect, it } from 'vitest'
import type { Environment, Volume } from '#src/environment.js'
import { claimIdentity, IDENTITY_FILE } from '#src/identity.js'
import { expectedIdentity } from '#src/joining/expected-identity.js'
import type { JoinAnswer } from '#src/joining/join-cluster.js'
import { MEMBERS_FILE, readMembersFile, writeMembersFile } from '#src/joining/members-file.js'

const CLUSTER_ID = 'c'.repeat(32)
const MEMBERS = [{ nodeId: 1, host: '10.0.0.1', port: 7420 }]
const ANSWER: JoinAnswer = { clusterId: CLUSTER_ID, nodeId: 4, members: MEMBERS, removed: [2] }

class Directory implements Pick<Volume, 'directory' | 'list' | 'readSmall' | 'writeSmall'> {
  readonly directory = '/data'
  readonly files = new Map<string, Uint8Array>()
  /** Writing this file fails: the broker dies there. */
  diesAt = ''
  async list() {
    return [...this.files].map(([name, bytes]) => ({ name, byteLength: bytes.length }))
  }
  async readSmall(name: string): Promise<Uint8Array | null> {
    return this.files.get(name) ?? null
  }
  async writeSmall(name: string, bytes: Uint8Array): Promise<void> {
    if (name === this.diesAt) throw new Error('the process died')
    this.files.set(name, bytes)
  }
}

let drawn = 0
const random = { uint32: () => 0, fill: (bytes: Uint8Array) => void bytes.fill(++drawn) }

function claim(directory: Directory, join: ((diskId: string) => Promise<JoinAnswer>) | null, bootstrap = false) {
  const volume = directory as Partial<Volume> as Volume
  return claimIdentity(volume, random, { clusterId: undefined, nodeId: undefined, bootstrap, join })
}

describe('a broker that joins', () => {
  it('asks under the same disk until it has an identity, and then never again', async () => {
    const directory = new Directory()
    const asked: string[] = []
    const join = async (diskId: string): Promise<JoinAnswer> => {
      asked.push(diskId)
      if (asked.length === 1) throw new Error('nobody answers')
      return ANSWER
    }
    await expect(claim(directory, join)).rejects.toThrow('nobody answers')
    directory.diesAt = IDENTITY_FILE
    await expect(claim(directory, join)).rejects.toThrow('the process died')
    // Who the others are is there before the identity is.
    expect(await readMembersFile(directory)).toMatchObject({ founders: [], members: MEMBERS, removed: [2] })
    directory.diesAt = ''
    const identity = await claim(directory, join)
    expect(identity).toMatchObject({ clusterId: CLUSTER_ID, nodeId: 4, diskId: asked[0] })
    expect(new Set(asked).size).toBe(1)
    expect(await claim(directory, join)).toEqual(identity)
    expect(asked).toHaveLength(3)
  })

  it('does not start any more once it has heard that it was removed', async () => {
    const directory = new Directory()
    const join = async (): Promise<JoinAnswer> => ANSWER
    await claim(directory, join)
    const volume = directory as Partial<Volume> as Volume
    const remembered = { joiningDisk: null, founders: [], members: MEMBERS }
    await writeMembersFile(volume, { ...remembered, removed: [2, 4] })
    await expect(claim(directory, join)).rejects.toMatchObject({ code: 'NODE_REMOVED' })
    await writeMembersFile(volume, { ...remembered, removed: [2, 3] })
    expect(await claim(directory, null)).toMatchObject({ nodeId: 4 })
  })

  it('does not begin a cluster of its own where it has begun to join one', async () => {
    const directory = new Directory()
    await expect(claim(directory, () => Promise.reject(new Error('nobody answers')))).rejects.toThrow()
    expect([...directory.files.keys()]).toEqual([MEMBERS_FILE])
    await expect(claim(directory, null, true)).rejects.toThrow('start with --join again')
  })

  it('is told by an empty directory what it can do', async () => {
    await expect(claim(new Directory(), null)).rejects.toThrow(
      '--join to become part of a cluster, --bootstrap to begin',
    )
  })
})

describe('what an empty directory becomes', () => {
  const environment = { cores: { self: 0, count: 2 } } as Partial<Environment> as Environment
  const join = [{ host: '10.0.0.1', port: 7420 }]

  it('on loopback a cluster, unless it is to join one; elsewhere only what it is told', () => {
    expect(expectedIdentity(environment, { host: '127.0.0.1' })).toMatchObject({ bootstrap: true, join: null })
    expect(expectedIdentity(environment, { host: '127.0.0.1', join })).toMatchObject({ bootstrap: false })
    expect(expectedIdentity(environment, { host: '10.0.0.2' })).toMatchObject({ bootstrap: false, join: null })
    expect(expectedIdentity(environment, { host: '10.0.0.2', bootstrap: true })).toMatchObject({ bootstrap: true })
    expect(expectedIdentity(environment, { host: '10.0.0.2', members: MEMBERS })).toMatchObject({ bootstrap: true })
  })

  it('is one thing only', () => {
    expect(() => expectedIdentity(environment, { host: 'a', join, members: MEMBERS })).toThrow('leave --members out')
    expect(() => expectedIdentity(environment, { host: 'a', join, bootstrap: true })).toThrow('choose')
    const numbered = expectedIdentity(environment, { host: 'a', join, nodeId: 3 }).join
    expect(() => numbered?.('d')).toThrow('leave --node-id out')
    const anywhere = expectedIdentity(environment, { host: 'a', join, port: 0 }).join
    expect(() => anywhere?.('d')).toThrow('give a --port')
  })
})
