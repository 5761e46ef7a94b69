// All groups of a coordinator as plain data, cut into parts that fit a record each, and their encoding.
import {
  MAX_MEMBERS_PER_GROUP_OF_CONSUMERS,
  MAX_PARTITIONS_PER_TOPIC,
  MAX_TOPICS_PER_MEMBER,
  ProtocolError,
} from '@millrace/protocol'
import { count, list, wrong } from '../fields.js'
import type { Fields } from '../message-pack.js'
import { clientId, memberId, nameOrNull, nameText, numbers, rows, u32 } from './group-fields.js'
import {
  FENCED_IDS_PER_NAME,
  IMAGE_PART_BYTES,
  MAX_NAME_LENGTH,
  MEMBER_IMAGE_BYTES,
  PARTITION_IMAGE_BYTES,
} from './group-limits.js'
import type { MemberId, StoredOffset, TopicSize } from './group-types.js'

export interface GroupsImage {
  /** No group that is yet to come begins with a lower counter. */
  readonly epochFloor: number
  readonly topics: readonly TopicSize[]
  readonly groups: readonly GroupImage[]
}

export interface GroupImage {
  readonly group: string
  readonly epoch: number
  /** In the order they joined. */
  readonly members: readonly MemberImage[]
  readonly topics: readonly { readonly topicId: number; readonly partitions: readonly PartitionImage[] }[]
}

export interface MemberImage {
  readonly memberId: MemberId
  readonly epoch: number
  readonly version: number
  readonly name: string | null
  readonly clientId: string
  readonly leaseMs: number
  readonly topics: readonly number[]
  readonly fenced: readonly MemberId[]
}

export interface PartitionImage {
  /** A place in `members`, or null; so is `next`. */
  readonly owner: number | null
  readonly epoch: number
  readonly isRevoking: boolean
  readonly next: number | null
  readonly committed: StoredOffset | null
}

/** One record of an image. They follow each other in the log with nothing between them. */
export interface ImagePart extends GroupsImage {
  /** From 0. */
  readonly part: number
  readonly parts: number
}

const FORMAT = 1
const REVOKING = 1
const COMMITTED = 2
const NUMBERS_PER_PARTITION = 7

/** Each part fits a record: it ends with the group that makes it large. */
export function imageParts({ epochFloor, topics, groups }: GroupsImage): readonly ImagePart[] {
  const cuts: GroupImage[][] = [[]]
  let byteLength = 0
  for (const group of groups) {
    if (byteLength >= IMAGE_PART_BYTES) {
      cuts.push([])
      byteLength = 0
    }
    cuts.at(-1)!.push(group)
    byteLength += mostBytes(group)
  }
  return cuts.map((cut, part) => ({
    epochFloor,
    topics: part === 0 ? topics : [],
    groups: cut,
    part,
    parts: cuts.length,
  }))
}

function mostBytes({ members, topics }: GroupImage): number {
  const partitions = topics.reduce((sum, topic) => sum + topic.partitions.length, 0)
  return members.reduce((sum, member) => sum + memberImageBytes(member), groupImageBytes(partitions))
}

/** What a group without members takes in an image at most. */
export function groupImageBytes(partitions: number): number {
  return 3 * MAX_NAME_LENGTH + partitions * PARTITION_IMAGE_BYTES
}

export function memberImageBytes({
  name,
  clientId,
  topics,
}: Pick<MemberImage, 'name' | 'clientId' | 'topics'>): number {
  const texts = 3 * ((name?.length ?? 0) + clientId.length)
  return MEMBER_IMAGE_BYTES + texts + 5 * topics.length + 9 * FENCED_IDS_PER_NAME
}

export function encodeImagePart({ part, parts, epochFloor, topics, groups }: ImagePart): Fields {
  return {
    format: FORMAT,
    part,
    parts,
    epochFloor,
    topics: topics.flatMap(({ topicId, partitions }) => [topicId, partitions]),
    groups: groups.map(({ topics: tables, ...group }) => ({
      ...group,
      topics: tables.map(({ topicId, partitions }) => ({ topicId, partitions: partitions.flatMap(partitionNumbers) })),
    })),
  }
}

/** @throws ProtocolError INVALID_REQUEST for fields that are not a part of an image that this version can read. */
export function decodeImagePart(fields: Fields): ImagePart {
  const format = count(fields, 'format')
  if (format !== FORMAT) throw new ProtocolError('INVALID_REQUEST', `an image of groups of format ${format}`)
  const [part, parts] = [count(fields, 'part'), count(fields, 'parts')]
  if (part >= parts) wrong('part')
  const topics = rows(fields, 'topics', 2).map(([topicId, partitions]) => ({
    topicId: topicId!,
    partitions: partitions!,
  }))
  if (topics.some(({ partitions }) => partitions < 1 || partitions > MAX_PARTITIONS_PER_TOPIC)) wrong('topics')
  return { part, parts, epochFloor: u32(fields, 'epochFloor'), topics, groups: list(fields, 'groups', decodeGroup) }
}

function decodeGroup(value: unknown): GroupImage {
  const fields = mapOf(value, 'groups')
  const members = list(fields, 'members', decodeMember)
  if (members.length > MAX_MEMBERS_PER_GROUP_OF_CONSUMERS || !areUnique(members.map((member) => member.memberId)))
    wrong('members')
  if (!areUnique(members.flatMap(({ name }) => name ?? []))) wrong('members')
  const topics = list(fields, 'topics', (topic) => decodeTable(topic, members.length))
  if (!areUnique(topics.map(({ topicId }) => topicId))) wrong('topics')
  const read = new Set(topics.map(({ topicId }) => topicId))
  if (members.some((member) => !member.topics.every((topicId) => read.has(topicId)))) wrong('topics')
  return { group: nameText(fields, 'group'), epoch: u32(fields, 'epoch'), members, topics }
}

function decodeMember(value: unknown): MemberImage {
  const fields = mapOf(value, 'members')
  const topics = numbers(fields, 'topics')
  if (topics.length > MAX_TOPICS_PER_MEMBER || !areUnique(topics)) wrong('topics')
  const fenced = list(fields, 'fenced', memberId)
  if (fenced.length > FENCED_IDS_PER_NAME) wrong('fenced')
  return {
    memberId: memberId(fields.memberId),
    epoch: u32(fields, 'epoch'),
    version: u32(fields, 'version'),
    name: nameOrNull(fields, 'name'),
    clientId: clientId(fields),
    leaseMs: u32(fields, 'leaseMs'),
    topics,
    fenced,
  }
}

function decodeTable(value: unknown, memberCount: number): GroupImage['topics'][number] {
  const fields = mapOf(value, 'topics')
  const flat = numbers(fields, 'partitions')
  if (flat.length % NUMBERS_PER_PARTITION !== 0) wrong('partitions')
  const length = flat.length / NUMBERS_PER_PARTITION
  if (length === 0 || length > MAX_PARTITIONS_PER_TOPIC) wrong('partitions')
  const partitions = Array.from({ length }, (_, at) => decodePartition(flat, at * NUMBERS_PER_PARTITION, memberCount))
  return { topicId: u32(fields, 'topicId'), partitions }
}

function partitionNumbers({ owner, epoch, isRevoking, next, committed }: PartitionImage): number[] {
  const flags = (isRevoking ? REVOKING : 0) | (committed === null ? 0 : COMMITTED)
  const { offset, term, atMs } = committed ?? { offset: 0, term: 0, atMs: 0 }
  return [place(owner), epoch, flags, place(next), offset, term, atMs]
}

/** 0 is nobody. */
const place = (member: number | null): number => (member === null ? 0 : member + 1)

function decodePartition(flat: readonly number[], at: number, memberCount: number): PartitionImage {
  const [owner, epoch, flags, next] = [flat[at]!, flat[at + 1]!, flat[at + 2]!, flat[at + 3]!]
  const [offset, term, atMs] = [flat[at + 4]!, flat[at + 5]!, flat[at + 6]!]
  const isRevoking = (flags & REVOKING) !== 0
  if (owner > memberCount || next > memberCount || flags > (REVOKING | COMMITTED)) wrong('partitions')
  // Only what is being let go of has somebody who waits for it.
  if ((next > 0 && !isRevoking) || (isRevoking && owner === 0)) wrong('partitions')
  return {
    owner: owner === 0 ? null : owner - 1,
    epoch,
    isRevoking,
    next: next === 0 ? null : next - 1,
    committed: (flags & COMMITTED) === 0 ? null : { offset, term, atMs },
  }
}

function areUnique(values: readonly unknown[]): boolean {
  return new Set(values).size === values.length
}

function mapOf(value: unknown, name: string): Fields {
  return typeof value === 'object' && value !== null && !Array.isArray(value) ? (value as Fields) : wrong(name)
}
