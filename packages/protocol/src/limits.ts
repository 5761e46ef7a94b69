// Every limit of the wire and of the batch format. Lengths read from the wire are compared with these before use.
import { assert } from './assert.js'

/** Payload of one frame. */
export const MAX_FRAME_BYTES = 8 * 1024 * 1024
/** Payload of one frame until HELLO is answered. */
export const MAX_FRAME_BYTES_BEFORE_HELLO = 16 * 1024
/** Client part of one batch, header included. */
export const MAX_BATCH_BYTES = 4 * 1024 * 1024
/** Decoded body of one batch: what a consumer may have to allocate. */
export const MAX_DECODED_BYTES = 16 * 1024 * 1024
export const MAX_RECORDS_PER_BATCH = 65_536
/** The shortest record: its length, attributes and two deltas of one byte each. */
export const MIN_RECORD_BYTES = 4
export const MAX_KEY_BYTES = 64 * 1024
export const MAX_HEADERS_PER_RECORD = 256
/** Names and values of all headers of one record. */
export const MAX_HEADER_BYTES_PER_RECORD = 64 * 1024
/** Topic names: 1 to this many characters of A-Z a-z 0-9 . _ - and neither "." nor "..". */
export const MAX_TOPIC_NAME_LENGTH = 249
export const MAX_PARTITIONS_PER_TOPIC = 10_000
/** Nodes, topics and route changes of one MAP_SNAPSHOT or MAP_DELTA; the frame's size limits them together. */
export const MAX_NODES_PER_MAP = 10_000
export const MAX_TOPICS_PER_MAP = 500_000
export const MAX_ROUTES_PER_DELTA = 400_000
/** Entries of one produce frame, partitions of one offsets request. */
export const MAX_ENTRIES_PER_FRAME = 4_096
/** Strings of the protocol (client id, software, host, error detail), in UTF-8 bytes. */
export const MAX_STRING_BYTES = 4_096
/** The authentication message inside HELLO. */
export const MAX_AUTHENTICATION_BYTES = 4_096
/** Cursors open at once on one connection. */
export const MAX_CURSORS_PER_CONNECTION = 10_000
/** Batches of one producer and partition that the broker remembers; at least twice what a client has in flight. */
export const PRODUCER_WINDOW_BATCHES = 16
/** Batches a client may have in flight per partition. */
export const MAX_IN_FLIGHT_BATCHES = 8
/** The broker sends a heartbeat on the control connection and for each idle cursor at this interval. */
export const HEARTBEAT_INTERVAL_MS = 1_000
/** Messages of one RAFT frame, changes of one LEADERS frame; more go into the next. */
export const MAX_RAFT_MESSAGES_PER_FRAME = 4_096
export const MAX_LEADERS_PER_FRAME = 4_096
/** Groups that enter, and as many that leave, with one SET_BEAT; groups that have left with one SET_BEAT_REPLY. */
export const MAX_GROUPS_PER_SET_BEAT = 4_096
/** Voters of a Raft group; as many learners, and as many voters that a change is leaving. */
export const MAX_MEMBERS_PER_GROUP = 64
/** Members of a consumer group. */
export const MAX_MEMBERS_PER_GROUP_OF_CONSUMERS = 4_096
/** Topics that one member of a consumer group reads. */
export const MAX_TOPICS_PER_MEMBER = 64
/** Partitions of all topics that one consumer of a group may have: a beat carries all of them. */
export const MAX_PARTITIONS_PER_CONSUMER = 65_535
/** How long a member of a consumer group may be silent: what a client may ask for. */
export const MIN_LEASE_MS = 1_000
export const MAX_LEASE_MS = 30 * 60_000

assert(MAX_BATCH_BYTES < MAX_FRAME_BYTES, 'a frame holds the largest batch')
assert(MAX_BATCH_BYTES <= MAX_DECODED_BYTES, 'an uncompressed batch of the largest size can be decoded')
assert(MAX_RECORDS_PER_BATCH * MIN_RECORD_BYTES < MAX_BATCH_BYTES, 'a batch of the most records fits')
assert(MAX_KEY_BYTES + MAX_HEADER_BYTES_PER_RECORD < MAX_BATCH_BYTES, 'the largest key and headers fit a batch')
assert(MAX_PARTITIONS_PER_TOPIC * 12 < MAX_FRAME_BYTES / 8, 'the largest topic takes a fraction of a map frame')
assert(MAX_FRAME_BYTES_BEFORE_HELLO >= MAX_AUTHENTICATION_BYTES + 2 * MAX_STRING_BYTES + 256, 'the largest HELLO fits')
assert(MAX_PARTITIONS_PER_CONSUMER * 32 < MAX_FRAME_BYTES / 2, 'the largest assignment fits a frame')
assert(PRODUCER_WINDOW_BATCHES >= 2 * MAX_IN_FLIGHT_BATCHES, 'a retry always falls into the window')
