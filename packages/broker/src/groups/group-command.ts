// The commands of a coordinator's log, each one record, as a MessagePack map.
import { MAX_PARTITIONS_PER_TOPIC, MAX_TOPICS_PER_MEMBER, ProtocolError } from '@millrace/protocol'
import { count, flag, wrong } from '../fields.js'
import { decodeFields, encodeMessagePack, type Fields } from '../message-pack.js'
import { clientId, MAX_U32, memberId, nameOrNull, nameText, rows, u32 } from './group-fields.js'
import { decodeImagePart, encodeImagePart, type ImagePart } from './group-image.js'
import { MAX_CLIENT_ID_LENGTH, MAX_COMMIT_ENTRIES } from './group-limits.js'
import type { CommittedOffset, MemberId, TopicSize } from './group-types.js'

export type GroupCommand =
  | JoinCommand
  /** Goes by itself: its partitions are others' at once. A commit may say so too. */
  | { readonly kind: 'leave'; readonly group: string; readonly memberId: MemberId; readonly memberEpoch: number }
  /** Its lease has run out. */
  | { readonly kind: 'expire'; readonly group: string; readonly memberId: MemberId; readonly memberEpoch: number }
  | CommitCommand
  /** A topic has so many partitions now; with 0 it was deleted. */
  | ({ readonly kind: 'topic' } & TopicSize)
  | ResetCommand
  | { readonly kind: 'delete'; readonly group: string }
  | ImageCommand

export interface JoinCommand {
  readonly kind: 'join'
  readonly group: string
  readonly memberId: MemberId
  /** Null for a member that nobody takes over from. */
  readonly memberName: string | null
  readonly clientId: string
  readonly leaseMs: number
  /** What it wants to read. */
  readonly topics: readonly TopicSize[]
}

export interface CommitCommand {
  readonly kind: 'commit'
  readonly group: string
  readonly memberId: MemberId
  readonly memberEpoch: number
  readonly entries: readonly CommitEntry[]
  /** The member goes once the entries are applied. */
  readonly leaves: boolean
}

export interface CommitEntry {
  readonly topicId: number
  readonly partition: number
  readonly lane: number
  /** The one it was assigned under. */
  readonly epoch: number
  readonly commit: CommittedOffset | null
  /** Everything of it is done; others may have it. */
  readonly releases: boolean
}

/** Where a group without members is to go on: forwards or back. */
export interface ResetCommand {
  readonly kind: 'reset'
  readonly group: string
  /** The sizes of the topics it is about. */
  readonly topics: readonly TopicSize[]
  readonly offsets: readonly { readonly topicId: number; readonly partition: number; readonly offset: number }[]
}

/** A part of all there is; the first one replaces what was there. */
export interface ImageCommand {
  readonly kind: 'image'
  readonly image: ImagePart
}

const COMMITS = 1
const RELEASES = 2
const COMMIT_NUMBERS = 7
const RESET_NUMBERS = 3

/** Judges nothing: what was not decoded before is to be read again before it gets into a log. */
export function encodeGroupCommand(command: GroupCommand): Uint8Array {
  return encodeMessagePack(fieldsOf(command))
}

function fieldsOf(command: GroupCommand): Fields {
  switch (command.kind) {
    case 'join': {
      const clientId = command.clientId.slice(0, MAX_CLIENT_ID_LENGTH)
      return { ...command, clientId, topics: command.topics.flatMap(sizeNumbers) }
    }
    case 'commit':
      return { ...command, entries: command.entries.flatMap(entryNumbers) }
    case 'reset':
      return {
        ...command,
        topics: command.topics.flatMap(sizeNumbers),
        offsets: command.offsets.flatMap(({ topicId, partition, offset }) => [topicId, partition, offset]),
      }
    case 'image':
      return { kind: 'image', ...encodeImagePart(command.image) }
    default:
      return { ...command }
  }
}

/** @throws ProtocolError INVALID_REQUEST for a command this version cannot read: then the log is of a newer one. */
export function decodeGroupCommand(bytes: Uint8Array): GroupCommand {
  const fields = decodeFields(bytes)
  const { kind } = fields
  switch (kind) {
    case 'join':
      return decodeJoin(fields)
    case 'leave':
    case 'expire':
      return { kind, ...memberOf(fields) }
    case 'commit':
      return {
        kind,
        ...memberOf(fields),
        entries: rows(fields, 'entries', COMMIT_NUMBERS, MAX_COMMIT_ENTRIES).map(entryOf),
        leaves: flag(fields, 'leaves'),
      }
    case 'topic':
      return { kind, topicId: u32(fields, 'topicId'), partitions: sizeOf(count(fields, 'partitions')) }
    case 'reset':
      return decodeReset(fields)
    case 'delete':
      return { kind, group: nameText(fields, 'group') }
    case 'image':
      return { kind, image: decodeImagePart(fields) }
    default:
      throw new ProtocolError('INVALID_REQUEST', `the group command ${String(kind)} is unknown`)
  }
}

function decodeJoin(fields: Fields): JoinCommand {
  const topics = sizes(fields, MAX_TOPICS_PER_MEMBER)
  if (new Set(topics.map(({ topicId }) => topicId)).size !== topics.length) wrong('topics')
  return {
    kind: 'join',
    group: nameText(fields, 'group'),
    memberId: memberId(fields.memberId),
    memberName: nameOrNull(fields, 'memberName'),
    clientId: clientId(fields),
    leaseMs: u32(fields, 'leaseMs'),
    topics,
  }
}

function decodeReset(fields: Fields): ResetCommand {
  return {
    kind: 'reset',
    group: nameText(fields, 'group'),
    topics: sizes(fields, MAX_COMMIT_ENTRIES),
    offsets: rows(fields, 'offsets', RESET_NUMBERS, MAX_COMMIT_ENTRIES).map(([topicId, partition, offset]) => ({
      topicId: small(topicId!, 'offsets'),
      partition: small(partition!, 'offsets'),
      offset: offset!,
    })),
  }
}

function memberOf(fields: Fields): { group: string; memberId: MemberId; memberEpoch: number } {
  return {
    group: nameText(fields, 'group'),
    memberId: memberId(fields.memberId),
    memberEpoch: u32(fields, 'memberEpoch'),
  }
}

function sizeNumbers({ topicId, partitions }: TopicSize): number[] {
  return [topicId, partitions]
}

function sizes(fields: Fields, most: number): readonly TopicSize[] {
  return rows(fields, 'topics', 2, most).map(([topicId, partitions]) => ({
    topicId: small(topicId!, 'topics'),
    partitions: partitions! > 0 ? sizeOf(partitions!) : wrong('topics'),
  }))
}

function sizeOf(partitions: number): number {
  return partitions <= MAX_PARTITIONS_PER_TOPIC ? partitions : wrong('partitions')
}

function entryNumbers({ topicId, partition, lane, epoch, commit, releases }: CommitEntry): number[] {
  const flags = (commit === null ? 0 : COMMITS) | (releases ? RELEASES : 0)
  return [topicId, partition, lane, flags, epoch, commit?.offset ?? 0, commit?.term ?? 0]
}

function entryOf([topicId, partition, lane, flags, epoch, offset, term]: readonly number[]): CommitEntry {
  if (flags! > (COMMITS | RELEASES)) wrong('entries')
  return {
    topicId: small(topicId!, 'entries'),
    partition: small(partition!, 'entries'),
    lane: small(lane!, 'entries'),
    epoch: small(epoch!, 'entries'),
    commit: (flags! & COMMITS) === 0 ? null : { offset: offset!, term: small(term!, 'entries') },
    releases: (flags! & RELEASES) !== 0,
  }
}

function small(value: number, name: string): number {
  return value <= MAX_U32 ? value : wrong(name)
}
