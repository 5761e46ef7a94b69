// Who a data directory belongs to, and how often a broker has started on it: one small file, replaced as a whole.
import { corruptFile, encodeCheckedJson, parseCheckedJson } from './checked-json.js'
import type { Random, Volume } from './environment.js'
import type { JoinAnswer } from './joining/join-cluster.js'
import { MEMBERS_FILE, readMembersFile, writeMembersFile } from './joining/members-file.js'
import { StartError } from './start-error.js'

export const IDENTITY_FILE = 'identity.json'

export interface Identity {
  /** 32 hexadecimal digits each. */
  readonly clusterId: string
  readonly diskId: string
  readonly nodeId: number
  /** Times a broker has started on this directory. It is the term of every partition it leads. */
  readonly starts: number
}

export interface ExpectedIdentity {
  /** Undefined: whatever the directory says. */
  readonly clusterId: string | undefined
  /** The id of the cluster that an empty directory begins, if `clusterId` names none; a random one unless given. */
  readonly newClusterId?: string
  readonly nodeId: number | undefined
  /** Whether an empty directory may begin a new cluster. */
  readonly bootstrap: boolean
  /** Asks a cluster to let this broker in by its disk, where an empty directory is to join one; null where it is not. */
  readonly join: ((diskId: string) => Promise<JoinAnswer>) | null
}

const NODE_OF_NEW_CLUSTER = 1

/**
 * Reads the identity of a data directory, or writes one into an empty directory. Nothing is written before everything
 * has been checked.
 * @throws StartError DATA_FOREIGN, DATA_OF_ANOTHER, DATA_OF_NEWER_VERSION, DATA_CORRUPT, NOT_BOOTSTRAPPED, NOT_JOINED,
 * NODE_REMOVED; DiskError.
 */
export async function claimIdentity(volume: Volume, random: Random, expected: ExpectedIdentity): Promise<Identity> {
  const bytes = await volume.readSmall(IDENTITY_FILE)
  const identity = bytes === null ? await newIdentity(volume, random, expected) : parseIdentity(bytes, volume.directory)
  checkExpected(identity, expected, volume.directory)
  await refuseRemoved(volume, identity.nodeId)
  if (bytes === null) await volume.writeSmall(IDENTITY_FILE, encodeIdentity(identity))
  return identity
}

/** Counts a start; what is returned is on disk. @throws DiskError */
export async function countStart(volume: Volume, identity: Identity): Promise<Identity> {
  const counted = { ...identity, starts: identity.starts + 1 }
  await volume.writeSmall(IDENTITY_FILE, encodeIdentity(counted))
  return counted
}

/** Nobody speaks with a node that was removed: where it has heard of that it does not start only to be refused by all. */
async function refuseRemoved(volume: Volume, nodeId: number): Promise<void> {
  const remembered = await readMembersFile(volume)
  if (remembered === null || !remembered.removed.includes(nodeId)) return
  throw new StartError(
    'NODE_REMOVED',
    `${volume.directory} belongs to node ${nodeId}, which was removed from the cluster for good: ` +
      'give --data an empty directory, and --join to make the broker a new node',
  )
}

async function newIdentity(volume: Volume, random: Random, expected: ExpectedIdentity): Promise<Identity> {
  const files = (await volume.list()).filter(({ name }) => name !== MEMBERS_FILE)
  if (files.length > 0) {
    const names = files.slice(0, 3).map((file) => file.name)
    throw new StartError(
      'DATA_FOREIGN',
      `${volume.directory} has no ${IDENTITY_FILE}, but other files (${names.join(', ')}): ` +
        'give --data an empty directory, or put the identity file back if it was lost',
    )
  }
  if (expected.join !== null) return joinedIdentity(volume, random, expected.join)
  if ((await readMembersFile(volume)) !== null) {
    throw new StartError(
      'NOT_BOOTSTRAPPED',
      `${volume.directory} has begun to join a cluster: start with --join again, or give --data an empty directory`,
    )
  }
  if (!expected.bootstrap) {
    throw new StartError(
      'NOT_BOOTSTRAPPED',
      `${volume.directory} is empty: add --join to become part of a cluster, --bootstrap to begin a new one, ` +
        'or give --data the right directory',
    )
  }
  return {
    clusterId: expected.clusterId ?? expected.newClusterId ?? randomId(random),
    diskId: randomId(random),
    nodeId: expected.nodeId ?? NODE_OF_NEW_CLUSTER,
    starts: 0,
  }
}

/**
 * The disk asks under the same id however often a start is interrupted, so that the cluster knows it for the same node; and
 * who the others are is on disk before the identity is, so that the node never takes itself for a cluster.
 */
async function joinedIdentity(
  volume: Volume,
  random: Random,
  join: (diskId: string) => Promise<JoinAnswer>,
): Promise<Identity> {
  const begun = await readMembersFile(volume)
  const joiningDisk = begun?.joiningDisk ?? randomId(random)
  if (begun === null) await writeMembersFile(volume, { joiningDisk, founders: [], members: [], removed: [] })
  const { clusterId, nodeId, members, removed } = await join(joiningDisk)
  await writeMembersFile(volume, { joiningDisk, founders: [], members, removed })
  return { clusterId, diskId: joiningDisk, nodeId, starts: 0 }
}

function checkExpected(identity: Identity, expected: ExpectedIdentity, directory: string): void {
  const another = (what: string): never => {
    throw new StartError('DATA_OF_ANOTHER', `${directory} belongs to ${what}: give --data the directory of this broker`)
  }
  if (expected.clusterId !== undefined && expected.clusterId !== identity.clusterId) {
    another(`cluster ${identity.clusterId}, not ${expected.clusterId}`)
  }
  if (expected.nodeId !== undefined && expected.nodeId !== identity.nodeId) {
    another(`node ${identity.nodeId}, not ${expected.nodeId}`)
  }
}

function randomId(random: Random): string {
  const bytes = new Uint8Array(16)
  random.fill(bytes)
  return [...bytes].map((byte) => byte.toString(16).padStart(2, '0')).join('')
}

export function encodeIdentity({ clusterId, nodeId, diskId, starts }: Identity): Uint8Array {
  return encodeCheckedJson({ clusterId, nodeId, diskId, starts })
}

/** @throws StartError DATA_CORRUPT, DATA_OF_NEWER_VERSION. */
export function parseIdentity(bytes: Uint8Array, directory: string): Identity {
  const { clusterId, nodeId, diskId, starts } = parseCheckedJson(bytes, IDENTITY_FILE, directory)
  if (!isId(clusterId) || !isId(diskId) || !isCount(nodeId) || !isCount(starts)) {
    throw corruptFile(IDENTITY_FILE, directory, 'does not make sense')
  }
  return { clusterId, diskId, nodeId, starts }
}

const isId = (value: unknown): value is string => typeof value === 'string' && /^[0-9a-f]{32}$/.test(value)
const isCount = (value: unknown): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value < 0xffffffff
