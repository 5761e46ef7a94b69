// Every limit of the broker, by the part that owns it; the relations between them are asserted when this loads.
import {
  assert,
  ENTERING_GROUP_BYTES,
  MAX_BATCH_BYTES,
  MAX_FRAME_BYTES,
  MAX_FRAME_BYTES_BEFORE_HELLO,
  MAX_GROUPS_PER_SET_BEAT,
  MAX_RAFT_MESSAGES_PER_FRAME,
  MAX_STRING_BYTES,
  RAFT_MESSAGE_BYTES,
  SET_GROUP_BYTES,
} from '@millrace/protocol'

// ---------------------------------------------------------------- broker

/** Where a broker listens unless it is told otherwise. */
export const DEFAULT_HOST = '127.0.0.1'
export const DEFAULT_PORT = 7420
/** How long a stop waits for requests in flight before it cuts them off. */
export const DEFAULT_STOP_TIMEOUT_MS = 10_000
/** Nodes of a cluster; each keeps a connection to each other. */
export const MAX_MEMBERS = 64
/** Memory for data that a broker needs at least. */
export const LEAST_MEMORY_BYTES = 64 * 1024 * 1024

// ---------------------------------------------------------------- local clusters

export const MAX_DEV_BROKERS = 9
/** How long all brokers together may take until they accept connections. */
export const DEV_READY_TIMEOUT_MS = 60_000
/** Before a broker that has ended by itself is started again; doubled each time. */
export const DEV_RESTART_MS = 250
export const DEV_RESTART_MAX_MS = 10_000

// ---------------------------------------------------------------- partitions

/** Producer sessions a partition remembers; the least recently used one goes first. */
export const MAX_SESSIONS_PER_PARTITION = 2_048
/** A session ends this long after its last batch, by append time. */
export const SESSION_EXPIRY_MS = 24 * 60 * 60 * 1000
/** Producers whose first batch was refused, remembered per partition so that their second one is told the truth. */
export const MAX_REFUSED_STARTS = 64
/**
 * Logs opened at the same time when a broker starts or a topic is created. Most of them wait for a flush or a write, which all
 * that wait share: the fewer rounds, the less the disk is waited for.
 */
export const MAX_CONCURRENT_OPENS = 1024
/** How long logs are opened without a look at what else there is to do: who is silent for a second is taken for dead. */
export const OPENING_TURN_MS = 5
/** Of those, the ones that are being read, each with memory of its own. */
export const RECOVERIES_AT_ONCE = 128

/** How often retention looks at some partitions, and at how many: all of 10,000 come round in ten seconds. */
export const RETENTION_STEP_MS = 250
/** The same where no partition has any: one may be given it. */
export const RETENTION_REST_MS = 2_000
export const RETENTION_PARTITIONS_PER_STEP = 256

// ---------------------------------------------------------------- replication

/** Replicas of each partition, where the cluster has as many brokers. */
export const DEFAULT_REPLICAS = 3
/** After news of who leads have left, those that come within this time leave together. */
export const ROUTE_BATCH_MS = 5
/** How long a broker waits for what another one tells of itself. */
export const ASK_NODE_TIMEOUT_MS = 2_000
/** Moves that one answer of a broker tells of, and partitions without a leader that one question is about. */
export const MOVES_PER_ANSWER = 500
export const PARTITIONS_PER_QUESTION = 500
/** Replicas that a broker should have and does not serve: it tells of so many, and tries again after a pause that doubles. */
export const MAX_LACKING_TOLD = 100
export const REPLICA_RETRY_STEP_MS = 1_000
export const LONGEST_REPLICA_RETRY_MS = 30_000
/** A replica that lacks what was committed so long ago is behind; one that lacks only what came since keeps up. */
export const REPLICA_GRACE_MS = 500
/** A member that was not heard of for so long counts as away in what is shown. */
export const MEMBER_ALIVE_MS = 2_000
/** A broker that was removed from its cluster ends with this: it must not be started again. */
export const REMOVED_EXIT_CODE = 3
/** How long a node that was removed is still spoken with, so that it hears that it was. */
export const LEAVE_GRACE_MS = 1_000
/** How soon a broker tries again to make its disk known. */
export const REGISTER_RETRY_MS = 1_000
/** How long a broker that stops waits for others to lead what it leads, and how often it looks. */
export const TRANSFER_TIMEOUT_MS = 3_000
export const TRANSFER_POLL_MS = 5
/** Groups that a broker hands over at the same time before it stops. */
export const HAND_OVERS_AT_ONCE = 16
/** What a broker that joins gives each it asks, how soon it asks again, and when it gives up. */
export const JOIN_ATTEMPT_MS = 5_000
export const JOIN_RETRY_MS = 500
export const JOIN_TIMEOUT_MS = 30_000
/** How soon is looked again for somebody who leads the metadata. */
export const LEADER_RETRY_MS = 50
/** How soon a replica tries again what memory or the disk refused. */
export const RAFT_RETRY_MS = 100

// ---------------------------------------------------------------- metadata

export const MAX_TOPICS = 10_000
/** Partitions of all topics together. */
export const MAX_PARTITIONS = 20_000
/** How long an administrator's request waits for a map version when it names no deadline. */
export const DEFAULT_MAP_WAIT_MS = 5_000

/** Partitions that one command gives other replicas. */
export const ASSIGNMENTS_PER_COMMAND = 1_000
/** How often the leader of the metadata looks whether its group has the members that it should. */
export const METADATA_MEMBERS_MS = 250
/** How long an answer waits for the metadata group to do without a node that is removed, and how often that is looked at. */
export const REMOVAL_WAIT_MS = 2_000
export const REMOVAL_POLL_MS = 50
/** How long a removal waits for elections under way to give every partition a leader again, and how often that is looked at. */
export const ELECTIONS_WAIT_MS = 5_000
export const ELECTIONS_POLL_MS = 100

// ---------------------------------------------------------------- consumer groups

/** Partitions of the topic of consumer groups, when it is made: so many brokers share the work of coordinating them. */
export const DEFAULT_GROUP_PARTITIONS = 8
export const MAX_GROUP_PARTITIONS = 1_000
/** Commands of one coordinator that are not committed yet; whoever comes then is told to come again. */
export const MAX_GROUP_COMMANDS_WAITING = 10_000
/** How long a batch of commands waits for room in the log. */
export const GROUP_COMMAND_TIMEOUT_MS = 10_000
/** Commands of one batch together; a single longer one is a batch of its own. */
export const GROUP_BATCH_BYTES = 256 * 1024
/** A coordinator reads so much of its log at once. */
export const GROUP_LOAD_READ_BYTES = 256 * 1024
/** How soon a coordinator tries again to read its log, and to log what nobody waits for. */
export const GROUP_RETRY_MS = 1_000
/** An image of all groups follows so many bytes of commands, or so many times its own size, whichever is more. */
export const GROUP_IMAGE_AFTER_BYTES = 1024 * 1024
export const GROUP_IMAGE_RATIO = 4
/** Beats of one connection that are held until there is news; a further one has the oldest answered. */
export const MAX_HELD_BEATS_PER_CONNECTION = 32
/** A broker whose timers come so late was away itself: then nobody's lease has run out. */
export const LATE_LEASE_TIMER_MS = 1_000
/** A beat is held for this part of its member's lease at most. */
export const HELD_LEASE_SHARE = 1 / 4
/** How often the leader of the metadata looks whether internal topics can have more replicas, while they have too few. */
export const INTERNAL_REPLICAS_MS = 1_000

// ---------------------------------------------------------------- connections

export const MAX_CONNECTIONS = 20_000
/** From one address: a program with a leak, or somebody who means harm, leaves room for the others. */
export const MAX_CONNECTIONS_PER_ADDRESS = 2_000
/** New connections of all addresses; twice as many may come at once, as after a restart. */
export const ACCEPTS_PER_SECOND = 1_000
export const ACCEPT_BURST_SECONDS = 2
/** Connections that are being told why they are refused. */
export const MAX_REFUSALS_UNDER_WAY = 64
/** From the connection's first moment to its HELLO. */
export const HELLO_TIMEOUT_MS = 5_000
/** Requests of one connection that wait for their answer; the broker reads on when there are fewer. */
export const MAX_REQUESTS_IN_FLIGHT = 64
/** Payload bytes of those requests; overdrawn by at most one frame. */
export const MAX_REQUEST_BYTES_IN_FLIGHT = 8 * 1024 * 1024
/** Payload of every kind of frame but PRODUCE: those are gathered on the heap. */
export const MAX_CONTROL_FRAME_BYTES = 256 * 1024
/** Share of the environment's memory that frames being received may take. */
export const FRAME_MEMORY_SHARE = 0.25
/** Frame memory there is in any case, so that the largest frame can always arrive. */
export const MIN_FRAME_MEMORY_BYTES = 2 * MAX_FRAME_BYTES
/** The rest of a frame is received in place when it is at least this long. */
export const RECEIVE_IN_PLACE_BYTES = 32 * 1024
/** How often a connection that found no memory looks again. */
export const MEMORY_RETRY_MS = 5
/** Bytes a reader may leave unread before the broker stops taking requests from it. */
export const MAX_UNSENT_BYTES = 4 * 1024 * 1024
/** A reader that takes nothing for this long is disconnected. */
export const SLOW_READER_MS = 30_000
/** A frame has to be complete this long after it began. */
export const SLOW_WRITER_MS = 30_000
/**
 * A connection without cursors and subscriptions that sends nothing for this long is closed. Clients close theirs after
 * 30 s without use: at the other end of one that is left nobody may be any more.
 */
export const IDLE_CONNECTION_MS = 2 * 60 * 1000
/** How often the limits on time are looked at, and heartbeats are sent. */
export const TICK_MS = 1_000

// ---------------------------------------------------------------- peers

/** A sign of life is sent this often when nothing else is; a peer that is not heard of for so long is lost. */
export const PEER_BEAT_MS = 100
/** One that carries the clock is sent at least this often. */
export const CLOCK_BEAT_MS = 1_000
export const SILENT_PEER_MS = 1_000
/** Wall clocks of brokers that differ by more are worth a line in the log. */
export const MAX_CLOCK_DIFFERENCE_MS = 5_000
/** For finding a peer and connecting, and then for its answer to PEER_HELLO. */
export const PEER_DIAL_TIMEOUT_MS = 500
export const PEER_HELLO_TIMEOUT_MS = 1_000
/** Pauses between attempts double from the first to the longest; a peer that is away for long is tried less often. */
export const FIRST_REDIAL_MS = 10
export const MAX_REDIAL_MS = 200
export const LONG_ABSENCE_MS = 30_000
export const REDIAL_AFTER_LONG_MS = 1_000
/** Bytes for one peer that are not sent yet; Raft messages beyond that are dropped. */
export const MAX_PEER_UNSENT_BYTES = 8 * 1024 * 1024
/** State of a group that is sent to a follower behind the start of the log; it goes in one frame. */
export const MAX_INSTALL_STATE_BYTES = MAX_FRAME_BYTES - 4096
/** How long a stop waits for what is queued for a peer. */
export const PEER_STOP_MS = 500
/** Leaders that change within this time are told in one frame; most have been gathered before. */
export const LEADERS_BATCH_MS = 2
/** Operations of one peer that are being carried out here. */
export const MAX_FORWARDS_PER_PEER = 64
/** An operation or its answer. */
export const MAX_FORWARD_BYTES = 240 * 1024
/** How long a state of gossip is waited for. */
export const GOSSIP_ANSWER_MS = 2_000
/** How soon a socket for datagrams that could not be had is tried again. */
export const GOSSIP_RETRY_MS = 10_000
/** How often a broker looks at how busy it is, and how often at most it puts together which leaders it knows. */
export const GOSSIP_LOAD_MS = 10_000
export const LEADERSHIP_DIGEST_MS = 200
/** A peer that lacks leaders is told all of them at most so often. */
export const LEADERS_WANTED_MS = 1_000
/** What frames of peers may take of the environment's memory; a broker with peers gives clients so much less. */
export const PEER_FRAME_MEMORY_SHARE = 0.1
/** A frame received in place counts as a sign of life each time so much of it has come. */
export const PEER_RUN_BYTES = 256 * 1024

// ---------------------------------------------------------------- cursors

/** Pushed bytes of a connection that are not sent yet; replies overtake what lies beyond. */
export const MAX_PUSHED_BYTES_UNSENT = 256 * 1024
/** What a cursor reads at once when several of a connection want to. */
export const MIN_CURSOR_READ_BYTES = 16 * 1024
/** Reads of one connection under way at the same time. */
export const MAX_READS_PER_CONNECTION = 8
/** Closed cursor ids a connection remembers, to refuse their reuse. */
export const MAX_CLOSED_CURSOR_IDS = 4_096

// ---------------------------------------------------------------- storage

/**
 * Size classes of slots: a log begins with the smallest, since thousands may never hold more, and a busy one gets larger ones.
 */
export const SLOT_BYTES = [128 * 1024, 1024 * 1024, 8 * 1024 * 1024, 64 * 1024 * 1024] as const
/** Written slots of the smallest class that are kept ready; larger ones are made when a log comes to need them. */
export const RESERVE_SLOTS = 8
/** Bytes of written slots of the largest class kept ready besides; what a burst of flushed appends takes without waiting. */
export const RESERVE_BYTES = 0
/** Slots are filled at most at this rate while nobody waits for one. */
export const FILL_BYTES_PER_SECOND = 128 * 1024 * 1024
/** `write` logs are flushed at the latest after this time, or when so many bytes of a log are not flushed. */
export const FLUSH_INTERVAL_MS = 100
export const MAX_UNFLUSHED_BYTES = 8 * 1024 * 1024
/** A group on disk: the largest batch with its log part and envelope, padded. */
export const MAX_GROUP_BYTES = MAX_BATCH_BYTES + 4096
/** While a group of a log is under way the next one gathers to this size before it follows. */
export const GATHER_BYTES = 128 * 1024
/** Flushes of the device under way at the same time; those that wait are joined by the kernel. */
export const FLUSHES_IN_FLIGHT = 8
/** Groups of one log being written at the same time. */
export const WRITES_IN_FLIGHT = 4
/** Memory in which a busy log assembles its groups is taken in pieces of this size. */
export const APPEND_EXTENT_BYTES = 1024 * 1024
/** Appended bytes in memory: under way, and the tail that followers and consumers read. */
export const APPEND_MEMORY_BYTES = 64 * 1024 * 1024
/** What it may be of a small memory budget. */
export const APPEND_MEMORY_SHARE = 0.375
/** Blocks read from disk that are kept, where no budget says otherwise; a broker's page pool takes what its budget leaves. */
export const CACHE_BYTES = 32 * 1024 * 1024
/** Memory that is left for small things: zeros for new segments, headers, recovery. */
export const SPARE_MEMORY_SHARE = 1 / 16
export const FRAME_BYTES = 128 * 1024
/** How far is read ahead of a cursor that follows a log from disk, at most. */
export const READ_AHEAD_BYTES = 2 * 1024 * 1024
/** A checkpoint is written after so many bytes of log, and so bounds what a restart reads. */
export const CHECKPOINT_BYTES = 1024 * 1024
/** A slot that is full sooner than this is followed by one of the next larger class. */
export const QUICK_ROLL_MS = 10_000
/** A slot that took longer than this is followed by one of the next smaller class. */
export const SLOW_ROLL_MS = 10 * 60_000
/** The scrubber reads so much of what is flushed a second, and rests so long before it begins anew. */
export const SCRUB_BYTES_PER_SECOND = 8 * 1024 * 1024
export const SCRUB_REST_MS = 60_000
/** Each of the four places a snapshot of all terms and votes may stand in; it takes half of it at most. */
export const VOTE_AREA_BYTES = 1024 * 1024
/** A read that the disk refuses while logs are opened is tried again after each of these, in milliseconds: it may pass. */
export const READ_RETRY_PAUSES_MS: readonly number[] = [10, 50, 250]
/** So many times for all reads of one log, and for the headers of all slots. */
export const READ_RETRIES_PER_LOG = 9
export const READ_RETRIES_PER_SCAN = 30
/** How often a full disk is looked at again. */
export const SPACE_RETRY_MS = 1_000

assert(LEADERS_BATCH_MS < ROUTE_BATCH_MS, 'what was gathered for all is not gathered again for brokers')
assert(MIN_FRAME_MEMORY_BYTES >= MAX_FRAME_BYTES, 'the largest frame finds memory')
assert(MAX_REQUEST_BYTES_IN_FLIGHT >= MAX_BATCH_BYTES, 'the largest batch can be in flight')
assert(MAX_CONTROL_FRAME_BYTES >= MAX_FRAME_BYTES_BEFORE_HELLO, 'HELLO is a control frame')
assert(SILENT_PEER_MS >= 5 * PEER_BEAT_MS, 'a few beats may come late')
assert(MAX_PEER_UNSENT_BYTES >= MAX_FRAME_BYTES, 'the largest frame can wait to be sent')
assert(MAX_FORWARD_BYTES + 2 * MAX_STRING_BYTES <= MAX_CONTROL_FRAME_BYTES, 'an operation is a control frame')
assert(MAX_RAFT_MESSAGES_PER_FRAME * RAFT_MESSAGE_BYTES < MAX_CONTROL_FRAME_BYTES, 'small messages are a control frame')
const MOST_SET_BYTES = MAX_GROUPS_PER_SET_BEAT * (ENTERING_GROUP_BYTES + SET_GROUP_BYTES)
assert(MOST_SET_BYTES < MAX_CONTROL_FRAME_BYTES, 'changes of a set are a control frame')
assert(PEER_FRAME_MEMORY_SHARE < FRAME_MEMORY_SHARE, 'clients keep a part of the frame memory')
assert(MAX_HELD_BEATS_PER_CONNECTION <= MAX_REQUESTS_IN_FLIGHT / 2, 'beats that are held leave room for commits')
assert(MIN_CURSOR_READ_BYTES <= MAX_PUSHED_BYTES_UNSENT, 'one read fits the push window')

// ---------------------------------------------------------------- partitions on the move

/** How often the leaders on this node look after who belongs to their groups, and how many of them each time. */
export const MEMBERSHIP_STEP_MS = 100
/** How long they rest once everything is as it is to be. */
export const MEMBERSHIP_REST_MS = 1_000
export const MEMBERSHIP_PARTITIONS_PER_STEP = 256
/** Groups led by one node that have new members catching up at the same time. */
export const MAX_MOVES = 16
/** What all new members together are sent of the past; what is appended meanwhile comes on top. */
export const CATCH_UP_BYTES_PER_SECOND = 64 * 1024 * 1024
/**
 * Leadership goes back to the node that should lead once that has kept up for so long: a few groups at a time, since each is a
 * moment's pause for those who produce, and one more for so many that wait, so that thousands do not take minutes.
 */
export const PREFERRED_LEADER_AFTER_MS = 5_000
export const LEAST_TRANSFERS_AT_ONCE = 2
export const MOST_TRANSFERS_AT_ONCE = 16
export const GROUPS_PER_TRANSFER = 100
/** Batches that it may lack when leadership is handed to it: appends wait until it has them. */
export const TRANSFER_LAG_BATCHES = 64
/** How often a replica that is to move away asks whether its group does without it, and how long it is kept after that. */
export const REMOVAL_STEP_MS = 2_000
export const REPLICA_QUARANTINE_MS = 30_000
/** Replicas that ask side by side. */
export const REMOVALS_AT_ONCE = 64
