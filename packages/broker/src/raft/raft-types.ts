// What the Raft core takes in and gives out: plain data, no promise, no clock, no bytes.
// Source: D. Ongaro, "Consensus: Bridging Theory and Practice", Stanford 2014.
import type { RaftLimits } from './raft-limits.js'

/** From 1; 0 is nobody. */
export type NodeId = number

/** Who belongs to a group. While `outgoing` is not empty the change is joint: both sets must agree. */
export interface Configuration {
  readonly voters: readonly NodeId[]
  /** Voters of the configuration that is being left; empty when no change is under way. */
  readonly outgoing: readonly NodeId[]
  /** They get the log and do not count. */
  readonly learners: readonly NodeId[]
}

/** What the core needs to know of a batch; whoever runs the core hangs the bytes on it. */
export interface Entry {
  readonly term: number
  /** The configuration that this entry brings, effective as soon as it is in the log; null for every other entry. */
  readonly configuration: Configuration | null
  /** What it takes of the windows, in bytes. */
  readonly byteLength: number
}

/** Term and vote, durable before anything that was said because of them leaves. */
export interface HardState {
  readonly term: number
  /** 0 when this node has not voted in the term. */
  readonly votedFor: NodeId
}

/** Where the log of a group begins. */
export interface RaftStart {
  /** Of the first entry that is kept. */
  readonly index: number
  /** Of the entry before it; 0 when there never was one. */
  readonly previousTerm: number
  /** In force before the first entry. */
  readonly configuration: Configuration
}

/** What a follower at rest has agreed to: while all of this holds, its leader is heard of by the heartbeat of its node. */
export interface FollowerRest {
  readonly leader: NodeId
  readonly term: number
  /** The last entry, durable and committed on both sides. */
  readonly index: number
}

interface Envelope {
  readonly from: NodeId
  readonly to: NodeId
  readonly term: number
}

export interface VoteRequest extends Envelope {
  /** A pre-vote asks what would be answered in `term`, and changes nothing anywhere. */
  readonly kind: 'preVote' | 'vote'
  readonly lastIndex: number
  readonly lastTerm: number
  /** The leader itself has asked for this election: having heard from it lately is no reason to refuse. */
  readonly isTransfer: boolean
}

export interface VoteReply extends Envelope {
  readonly kind: 'preVoteReply' | 'voteReply'
  readonly granted: boolean
  /** The voter has lost entries that it had acknowledged; its vote counts only when all voters grant theirs. */
  readonly isRepairing: boolean
}

/** Entries follow the one at `previousIndex`; none makes it a probe or a heartbeat. */
export interface AppendRequest<E extends Entry> extends Envelope {
  readonly kind: 'append'
  readonly previousIndex: number
  readonly previousTerm: number
  readonly commit: number
  /** Rises with every round of the leader's heartbeats; the reply brings it back. */
  readonly round: number
  readonly entries: readonly E[]
}

export interface AppendReply extends Envelope {
  readonly kind: 'appendReply'
  readonly round: number
  /** Whether the log agrees with the leader's up to `index`, durably; else `index` is where to look next. */
  readonly agrees: boolean
  readonly index: number
  /** When it does not agree: the term of this node's entry at `index`, so that the leader skips a term at a time. */
  readonly indexTerm: number
  /** The last entry of this node, durable or not. */
  readonly lastIndex: number
}

/** The follower is behind the start of the leader's log. The state itself travels beside the message. */
export interface InstallRequest extends Envelope {
  readonly kind: 'install'
  readonly round: number
  readonly start: RaftStart
}

/** Take over at once, without waiting for an election timeout. */
export interface TimeoutNow extends Envelope {
  readonly kind: 'timeoutNow'
}

export type RaftMessage<E extends Entry> =
  | VoteRequest
  | VoteReply
  | AppendRequest<E>
  | AppendReply
  | InstallRequest
  | TimeoutNow

export type Role = 'follower' | 'preCandidate' | 'candidate' | 'leader'

/** What is to be done, in this order. */
export type Effect<E extends Entry> =
  /** Make term and vote durable, then call `hardStatePersisted(sequence)`. Messages that depend on it are held until then. */
  | { readonly kind: 'persist'; readonly sequence: number; readonly hardState: HardState }
  /** To be sent now; losing it is no harm. */
  | { readonly kind: 'send'; readonly message: RaftMessage<E> }
  /**
   * Read entries from `nextIndex` on, at most `maxBytes` but at least one, then call `entriesRead(to, term, entries)`,
   * which answers with the message to send; or `readFailed(to, term)`. One at a time for each follower.
   */
  | {
      readonly kind: 'read'
      readonly to: NodeId
      readonly term: number
      readonly nextIndex: number
      readonly maxBytes: number
    }
  /**
   * Cut off every entry above `lastIndex`, then call `truncated(sequence)`. Appends that follow come behind it. Until then
   * nothing above `lastIndex` counts as durable here: what is reported may still be what is about to be cut off, and (index,
   * term) alone does not tell when the same entry comes back after a second cut.
   */
  | { readonly kind: 'truncate'; readonly lastIndex: number; readonly sequence: number }
  /** Append to the log, the first at `firstIndex`; call `durable` once entries are. */
  | { readonly kind: 'append'; readonly firstIndex: number; readonly entries: readonly E[] }
  /** Give up the whole log and begin at `start`; call `installed(start)` once that is durable. */
  | { readonly kind: 'install'; readonly start: RaftStart; readonly from: NodeId }
  /** Everything up to `index` is committed. */
  | { readonly kind: 'commit'; readonly index: number }
  /** Role, term or known leader (0: none) have changed. */
  | { readonly kind: 'role'; readonly role: Role; readonly term: number; readonly leader: NodeId }
  /** A read asked for with `requestRead` may be answered: nothing committed before it is missing here. */
  | { readonly kind: 'readReady'; readonly read: number; readonly index: number }
  /** A read asked for before cannot be answered here any more. */
  | { readonly kind: 'readRefused'; readonly read: number }
  /** The joint configuration is committed: append an entry with this one (and report it by `proposed`), which ends the change. */
  | { readonly kind: 'leaveJoint'; readonly configuration: Configuration }
  /** The node asked to take over did not in time: this one goes on, and takes proposals again. */
  | { readonly kind: 'transferAborted'; readonly to: NodeId }
  /** This replica holds everything again that it may once have acknowledged. */
  | { readonly kind: 'repaired' }
  /** The follower has everything up to `index`, which is the end: it may rest, if it agrees (`restWith`), until woken. */
  | { readonly kind: 'rest'; readonly follower: NodeId; readonly term: number; readonly index: number }
  /** The group rests no more with this peer, which it leads (`isLed`) or follows. */
  | { readonly kind: 'wake'; readonly peer: NodeId; readonly isLed: boolean }

/** Entries from `firstIndex` on, up to the next run, are of one term. */
export interface TermRun {
  readonly term: number
  readonly firstIndex: number
}

/** A configuration and the entry that brought it. */
export interface PlacedConfiguration {
  readonly index: number
  readonly configuration: Configuration
}

/** How a core begins: with what its node has kept. */
export interface RaftOptions {
  readonly nodeId: NodeId
  readonly limits: RaftLimits
  /** A whole number from 0 up to, and without, `bound`. */
  readonly random: (bound: number) => number
  readonly hardState: HardState
  readonly start: RaftStart
  /** Of the log, ascending, from `start.index` on. */
  readonly terms: readonly TermRun[]
  /** Of the log; `start.index - 1` when it is empty. */
  readonly lastIndex: number
  /** What of the log is durable already; the rest is reported by `durable`. */
  readonly durableIndex: number
  /** Found in the log, ascending. */
  readonly configurations: readonly PlacedConfiguration[]
  /** Known to be committed; at least `start.index - 1`. */
  readonly committed: number
  /** The replica may have lost entries that it had acknowledged. */
  readonly isRepairing: boolean
  /** Followers hear of a commit at once instead of with the next append or heartbeat. */
  readonly announcesCommits?: boolean
}
