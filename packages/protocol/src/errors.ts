// The error table of the protocol: number, name, whether a retry can help, whether the connection is over, what to do.

interface ErrorRow {
  readonly code: number
  /** The same request may succeed later. */
  readonly retriable: boolean
  /** The connection is closed after this error. */
  readonly fatal: boolean
  /** What the reader of the error should do. */
  readonly advice: string
}

const row = (code: number, retriable: boolean, fatal: boolean, advice: string): ErrorRow => ({
  code,
  retriable,
  fatal,
  advice,
})

/** Numbers are for ever; a new error takes a new number. */
export const ERROR_TABLE = {
  CORRUPT_FRAME: row(1, false, true, 'The frame breaks the wire format; report it as a bug of the client library.'),
  UNKNOWN_KIND: row(2, false, true, 'The broker does not know this kind of frame; use a client of the same version.'),
  UNSUPPORTED_FEATURE: row(3, false, true, 'The frame requires a feature the broker lacks; upgrade the broker.'),
  UNSUPPORTED_VERSION: row(4, false, true, 'No protocol version in common; upgrade the older side.'),
  NOT_MILLRACE: row(5, false, true, 'The bytes are not the Millrace protocol; check scheme and port of the address.'),
  FRAME_TOO_LARGE: row(6, false, true, 'Send smaller batches, or fewer of them in one frame.'),
  HELLO_REQUIRED: row(7, false, true, 'Send HELLO first, once per connection.'),
  WRONG_CLUSTER: row(8, false, true, 'This broker belongs to another cluster; check the bootstrap addresses.'),
  WRONG_NODE: row(9, true, true, 'The address now belongs to another broker; refresh the cluster map.'),
  WRONG_SHARD: row(10, true, true, 'The broker has no such shard; refresh the cluster map.'),
  NOT_LEADER: row(11, true, false, 'Another broker leads the partition; use the route in the reply.'),
  UNKNOWN_TOPIC: row(12, false, false, 'Create the topic first, or check its name.'),
  UNKNOWN_PARTITION: row(13, false, false, 'The topic has fewer partitions; refresh the cluster map.'),
  UNKNOWN_LANE: row(14, false, false, 'Only lane 0 exists.'),
  TOPIC_EXISTS: row(15, false, false, 'Choose another name, or use the topic that is there.'),
  INVALID_TOPIC_NAME: row(16, false, false, 'Use 1 to 249 characters of A-Z a-z 0-9 . _ - for a topic name.'),
  INVALID_CONFIG: row(17, false, false, 'Correct the setting that the message names.'),
  WRONG_DISK: row(
    18,
    false,
    true,
    'The node is known with another disk: give it back its own, or add it as a new node.',
  ),
  NODE_REMOVED: row(
    19,
    false,
    true,
    'The broker was removed from the cluster for good: give it an empty directory and let it join as a new one.',
  ),
  CORRUPT_BATCH: row(20, true, false, 'The batch was damaged on its way; send it again.'),
  INVALID_BATCH: row(21, false, false, 'The batch contradicts itself; report it as a bug of the client library.'),
  BATCH_TOO_LARGE: row(22, false, false, 'Send a smaller record or batch.'),
  CODEC_NOT_ALLOWED: row(23, false, false, 'Use a compression the topic allows, or change the topic.'),
  UNKNOWN_PRODUCER: row(24, false, false, 'The broker no longer knows this producer session; start a new one.'),
  OUT_OF_ORDER_SEQUENCE: row(25, true, false, 'A batch before this one is missing; send again in order.'),
  PRODUCER_FENCED: row(26, false, false, 'A newer epoch of this producer exists; close this one.'),
  OFFSET_OUT_OF_RANGE: row(30, false, false, 'Start from an offset between the log start and the high watermark.'),
  LOG_DIVERGED: row(31, false, false, 'Records already read are gone from the log; decide where to go on.'),
  CURSOR_ID_IN_USE: row(32, false, true, 'Use a new cursor id for each cursor of a connection.'),
  TOO_MANY_CURSORS: row(33, false, false, 'Close cursors, or spread them over more connections.'),
  MOVED: row(34, true, false, 'The partition has moved; open the cursor on the new route.'),
  TOPIC_DELETED: row(35, false, false, 'The topic was deleted; stop, or create it anew and subscribe again.'),
  OVERLOADED: row(40, true, false, 'The broker is busy; send again after the time it names.'),
  DISK_FULL: row(41, true, false, 'Free or add disk space on the broker; reads go on.'),
  STORAGE_FAILED: row(
    42,
    true,
    false,
    'A write or flush failed on the broker; see its log, repair the disk, restart it.',
  ),
  DEADLINE_EXCEEDED: row(43, true, false, 'The request was too late when the broker reached it; nothing was done.'),
  SHUTTING_DOWN: row(44, true, true, 'The broker is stopping; go on with another, or when it is back.'),
  DAMAGED: row(45, false, false, 'The records at this offset are damaged on disk; see the log of the broker.'),
  INVALID_REQUEST: row(50, false, false, 'Correct the field that the message names.'),
  UNKNOWN_OPERATION: row(51, false, false, 'The broker does not know this operation; upgrade it.'),
  INTERNAL: row(60, true, false, 'A bug in the broker; see its log and report it.'),
  UNKNOWN_MEMBER: row(70, false, false, 'The lease of this member ran out; join the group again with a new member id.'),
  MEMBER_FENCED: row(71, false, false, 'Another process uses this memberName; give each process a name of its own.'),
  STALE_ASSIGNMENT: row(72, false, false, "The partition is another member's now; go on with what is assigned."),
  UNKNOWN_GROUP: row(73, false, false, 'No member and no committed offset of this group is known; check its name.'),
  GROUP_NOT_EMPTY: row(74, false, false, 'Stop all members of the group first.'),
  COORDINATOR_LOADING: row(
    75,
    true,
    false,
    'The new leader is reading what groups have committed; ask again in a moment.',
  ),
} as const satisfies Record<string, ErrorRow>

export type ErrorName = keyof typeof ERROR_TABLE

const NAMES_BY_CODE = new Map<number, ErrorName>(
  (Object.keys(ERROR_TABLE) as ErrorName[]).map((name) => [ERROR_TABLE[name].code, name]),
)

/** 0 stands for success wherever a result code is on the wire. */
export const CODE_OK = 0

/** The name of a code read from the wire, or null for one this version does not know. */
export function errorName(code: number): ErrorName | null {
  return NAMES_BY_CODE.get(code) ?? null
}

/** A violation or refusal that has a row in the error table. `message` says what and what to do. */
export class ProtocolError extends Error {
  override readonly name = 'ProtocolError'
  /** @param detail what happened, without advice; the advice of the table is appended to the message. */
  constructor(
    readonly code: ErrorName,
    readonly detail: string,
    options?: { cause?: unknown },
  ) {
    super(detail === '' ? ERROR_TABLE[code].advice : `${detail}. ${ERROR_TABLE[code].advice}`, options)
  }

  get retriable(): boolean {
    return ERROR_TABLE[this.code].retriable
  }

  get fatal(): boolean {
    return ERROR_TABLE[this.code].fatal
  }
}
