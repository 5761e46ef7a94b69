// What a broker remembers of its cluster beside its data, so that a restart finds the others: one small file, replaced whole.
import { corruptFile, encodeCheckedJson, parseCheckedJson } from '../checked-json.js'
import type { Volume } from '../environment.js'
import type { Member } from '../members.js'

export const MEMBERS_FILE = 'members.json'

export interface RememberedMembers {
  /**
   * The disk under which this broker asked to join, from before it was answered: it is the same node, however often it asks.
   * Null for one that did not join. Until it has an identity there are no members.
   */
  readonly joiningDisk: string | null
  /**
   * Nodes that the metadata group began with; none for a broker that joined later: it learns from the others who belongs to
   * the group, and must never take itself for the one that decides.
   */
  readonly founders: readonly number[]
  /** All nodes of the cluster, this one among them. */
  readonly members: readonly Member[]
  /** Nodes that were members and never will be again. */
  readonly removed: readonly number[]
}

/** @throws StartError DATA_CORRUPT, DATA_OF_NEWER_VERSION; DiskError. */
export async function readMembersFile(
  volume: Pick<Volume, 'directory' | 'readSmall'>,
): Promise<RememberedMembers | null> {
  const bytes = await volume.readSmall(MEMBERS_FILE)
  if (bytes === null) return null
  const { joiningDisk, founders, members, removed } = parseCheckedJson(bytes, MEMBERS_FILE, volume.directory)
  const isDisk = joiningDisk === null || typeof joiningDisk === 'string'
  if (!isDisk || !isIds(founders) || !isIds(removed) || !Array.isArray(members) || !members.every(isMember)) {
    throw corruptFile(MEMBERS_FILE, volume.directory, 'does not make sense')
  }
  return { joiningDisk, founders, members, removed }
}

/** @throws DiskError */
export async function writeMembersFile(volume: Pick<Volume, 'writeSmall'>, content: RememberedMembers): Promise<void> {
  await volume.writeSmall(MEMBERS_FILE, encodeCheckedJson(content))
}

const isId = (value: unknown): value is number => typeof value === 'number' && Number.isSafeInteger(value) && value > 0
const isIds = (value: unknown): value is readonly number[] => Array.isArray(value) && value.every(isId)
const isMember = (value: unknown): value is Member =>
  typeof value === 'object' &&
  value !== null &&
  'nodeId' in value &&
  isId(value.nodeId) &&
  'host' in value &&
  typeof value.host === 'string' &&
  'port' in value &&
  isId(value.port)
