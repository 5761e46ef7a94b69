// What one coordinator takes on. The relations between these numbers are asserted when this loads.
import { assert, MAX_BATCH_BYTES, MAX_TOPIC_NAME_LENGTH } from '@millrace/protocol'
import { MAX_PARTITIONS } from '../limits.js'

/** Groups of one coordinator. When there are as many, an empty one that never committed makes room for a new one. */
export const MAX_GROUPS = 10_000
/** Partitions that one commit is about. */
export const MAX_COMMIT_ENTRIES = 65_535
/** Names of groups and of members, in UTF-16 units. */
export const MAX_NAME_LENGTH = MAX_TOPIC_NAME_LENGTH
/** Client ids are for people to read; what is longer is cut. */
export const MAX_CLIENT_ID_LENGTH = 100
/** Ids that used a member's name before and were fenced; older ones are told that they are unknown. */
export const FENCED_IDS_PER_NAME = 4
/** A group's counter stays a u32: nobody joins any more once it is this high, and those who are there go on. */
export const LAST_JOIN_EPOCH = 0xff00_0000

/** At most, in an image: seven numbers of a partition, and a member but for its texts, topics and fenced ids. */
export const PARTITION_IMAGE_BYTES = 40
export const MEMBER_IMAGE_BYTES = 128
/** Nobody joins a group whose image would be larger: it stands in one record. */
export const MAX_GROUP_IMAGE_BYTES = 2.75 * 1024 * 1024
/** Groups are gathered into one part of an image until it has so many bytes; a group is never cut. */
export const IMAGE_PART_BYTES = 256 * 1024

assert(MAX_PARTITIONS * PARTITION_IMAGE_BYTES < MAX_GROUP_IMAGE_BYTES / 2, 'a group may read all there is')
assert(
  IMAGE_PART_BYTES + MAX_GROUP_IMAGE_BYTES < 0.8 * MAX_BATCH_BYTES,
  'the largest part fits a batch, and topics grow',
)
