// What a broker remembers of its cluster beside its data, so that a restart finds the others: one small file, replaced whole.
import { crc32 } from '@millrace/protocol'
import type { Volume } from '../environment.js'
import type { Member } from '../members.js'
import { StartError } from '../start-error.js'

export const MEMBERS_FILE = 'members.json'
const FORMAT = 1

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
  const fields = parse(bytes, volume.directory)
  const { joiningDisk, founders, members, removed } = fields
  if (joiningDisk !== null && typeof joiningDisk !== 'string') throw corrupt(volume.directory, 'does not make sense')
  if (!isIds(founders) || !isIds(removed) || !Array.isArray(members) || !members.every(isMember)) {
    throw corrupt(volume.directory, 'does not make sense')
  }
  return { joiningDisk, founders, members, removed }
}

/** @throws DiskError */
export async function writeMembersFile(volume: Pick<Volume, 'writeSmall'>, content: RememberedMembers): Promise<void> {
  const checked = { format: FORMAT, ...content }
  const file = { ...checked, checksum: checksumOf(checked) }
  await volume.writeSmall(MEMBERS_FILE, encoder.encode(`${JSON.stringify(file)}\n`))
}

function parse(bytes: Uint8Array, directory: string): Readonly<Record<string, unknown>> {
  let file: unknown
  try {
    file = JSON.parse(decoder.decode(bytes))
  } catch (cause) {
    throw corrupt(directory, 'is not JSON', cause)
  }
  if (typeof file !== 'object' || file === null) throw corrupt(directory, 'does not make sense')
  const { checksum, ...content } = file as Record<string, unknown>
  if (typeof content.format === 'number' && content.format > FORMAT) {
    throw new StartError(
      'DATA_OF_NEWER_VERSION',
      `${directory} was written by a newer version of Millrace (format ${content.format}): upgrade this broker`,
    )
  }
  if (checksum !== checksumOf(content)) throw corrupt(directory, 'was changed or damaged')
  return content
}

function corrupt(directory: string, what: string, cause?: unknown): StartError {
  const advice = 'put the original back from a copy; the data beside it is untouched'
  return new StartError('DATA_CORRUPT', `${MEMBERS_FILE} in ${directory} ${what}: ${advice}`, { cause })
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

function checksumOf(content: object): string {
  return crc32(encoder.encode(JSON.stringify(content)), 0)
    .toString(16)
    .padStart(8, '0')
}

const encoder = new TextEncoder()
const decoder = new TextDecoder()
