// Every limit of the client that is not an option, with its reason.
import { assert, HEARTBEAT_INTERVAL_MS, MAX_FRAME_BYTES, MAX_IN_FLIGHT_BATCHES } from '@millrace/protocol'

/** Port of an address that names none. */
export const DEFAULT_PORT = 7420
export const MAX_BOOTSTRAP_ADDRESSES = 1_000
/** Timers of JavaScript know no longer delay: beyond it they fire at once. */
export const MAX_TIMER_MS = 2 ** 31 - 1
/** What partitions are counted in on the wire, less what no topic has. */
export const MAX_PARTITION = 2 ** 31 - 1
/**
 * A link that waits for something and has been silent for so long is asked with PING, which a restarted machine refuses
 * at once. Longer than the interval of heartbeats, so that idle cursors cause none.
 */
export const PING_AFTER_MS = 2_000
/** So long without a byte after PING, and the link is dead. */
export const PING_TIMEOUT_MS = 5_000
/** A node that has not heard from the metadata leader for so long has lost touch: the control connection leaves it. */
export const MAP_STALE_MS = 5_000
/**
 * A control connection without a heartbeat for so long is given up. Two may be late; with a third the client would learn
 * too late who leads the partitions of a node that has fallen silent.
 */
export const HEARTBEAT_MISSING_MS = 2_500
/** When every node has lost touch, the control connection stays where it is, and looks round again after so long. */
export const STALE_PATIENCE_MS = 10_000
export const MAX_STALE_PATIENCE_MS = 60_000
/** Doubts about routes make the client ask for the map at most once in so long. */
export const REFRESH_INTERVAL_MS = 100
/** While a partition that is in use has no leader, the map is asked for after so long, then seldom. */
export const LEADER_WAIT_MS = 250
export const MAX_LEADER_WAIT_MS = 4_000
/** So long a refusal stands against a map that names the same leader still. */
export const REFUSAL_DOUBT_MS = 2_000
/** No produce frame carries more batch bytes than this unless one batch alone does: replies come per frame. */
export const FRAME_TARGET_BYTES = 1024 * 1024
/** A batch of so many bytes for a partition with nothing on its way is sent at the end of the call that filled it. */
export const AT_ONCE_BYTES = 48 * 1024
/** Bytes handed to one link and not yet sent, above which no further batch is sealed for it. */
export const UNSENT_LIMIT_BYTES = 1024 * 1024
/** After so many bytes queued in one turn of the event loop, `ready()` lets the loop turn. */
export const READY_TURN_BYTES = 128 * 1024
/** Synchronous delivery yields to the event loop after so many records, or so many milliseconds. */
export const DELIVERY_TURN_RECORDS = 1_000
export const DELIVERY_TURN_MS = 5
/** The clock is looked at once in so many records. */
export const DELIVERY_CLOCK_RECORDS = 64
/**
 * Records that operators have taken and not begun to work on, above which nothing more of their partition is delivered until
 * half of them have begun: one for so many bytes of the partition's share of the window, but always some, so that lanes find
 * work. Each takes about a kilobyte of objects; small records in a window of bytes would fill the memory. By partition,
 * because the first ones would leave nothing to the lanes of the others.
 */
export const BYTES_PER_WAITING_RECORD = 4_096
export const MIN_WAITING_RECORDS = 32
/** How often a subscription looks after its cursors and its progress. */
export const WATCH_INTERVAL_MS = 1_000
/** A cursor with credit from which nothing came for so long, not even a heartbeat, is opened anew. */
export const CURSOR_SILENCE_MS = 10_000
/** A cursor that gets heartbeats and no records, though there are some, for so long is opened anew. */
export const CURSOR_OWED_MS = 30_000
/** A record handed out and not settled for so long is worth a warning. */
export const STALL_WARNING_MS = 30_000
/** A cursor that could not be opened for so long is worth a warning too. */
export const UNOPENED_WARNING_MS = 30_000
/** The warning that the buffer is full is given once in so long. */
export const BUFFER_WARNING_MS = 60_000
/** The warning that an interceptor failed is given once in so long. */
export const INTERCEPTOR_WARNING_MS = 60_000
/** A data connection that nothing needs any more is closed after so long. */
export const LINK_IDLE_MS = 30_000
/** How often the producer looks for batches past `deliveryTimeoutMs`, at most. */
export const DELIVERY_SWEEP_MS = 1_000
/** The coordinator of a group is asked again after so long at most: leases go on running meanwhile. */
export const COORDINATOR_RETRY_MS = 1_000
/** The last commit of a member that nobody waits for is given up after so long. */
export const LEAVE_TIMEOUT_MS = 5_000
/** How often the lag of a group is looked at for whoever subscribed to it. */
export const LAG_INTERVAL_MS = 1_000
/** How often the membership of a group looks at its lease and at the event loop, at most and at least. */
export const MAX_LEASE_WATCH_MS = 1_000
export const MIN_LEASE_WATCH_MS = 50
/** Memory of finished frames that a client keeps for new ones: what a subscription may have on its way by default. */
export const IDLE_FRAME_BYTES = 8 * 1024 * 1024
/** Values of a topic's first lane; others come with lanes. */
export const LANE = 0

assert(FRAME_TARGET_BYTES < MAX_FRAME_BYTES, 'a frame holds its target')
assert(PING_AFTER_MS > HEARTBEAT_INTERVAL_MS, 'heartbeats come before anybody asks')
assert(HEARTBEAT_MISSING_MS > 2 * HEARTBEAT_INTERVAL_MS, 'one lost heartbeat is no silence')
assert(MAP_STALE_MS > HEARTBEAT_MISSING_MS, 'silence is noticed before the age of what was said last')
assert(REFUSAL_DOUBT_MS > LEADER_WAIT_MS, 'the map is asked for before a refusal is doubted')
assert(DELIVERY_CLOCK_RECORDS <= DELIVERY_TURN_RECORDS && MAX_IN_FLIGHT_BATCHES >= 5, 'defaults respect the protocol')
