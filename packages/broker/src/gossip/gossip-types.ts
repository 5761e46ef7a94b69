// What the gossip core takes in and gives out: plain data, no promise, no clock, no bytes.
// Sources: A. Das et al., "SWIM", DSN 2002; A. Dadgar et al., "Lifeguard: Local Health Awareness for More Accurate Failure
// Detection", DSN-W 2018.
import type { GossipLimits } from './gossip-limits.js'

/** From 1; 0 is nobody. */
export type NodeId = number

export type MemberState = 'alive' | 'suspect' | 'dead' | 'left'

export interface Address {
  readonly host: string
  readonly port: number
}

/** How busy a node says it is. */
export interface MemberLoad {
  /** In and out, of clients. */
  readonly bytesPerSecond: number
  readonly freeDiskBytes: number
  readonly partitionsLed: number
}

/** What a node says of itself. */
export interface MemberRecord {
  /** Where clients connect. */
  readonly client: Address
  /** Where the other nodes connect, and the datagrams of gossip go (UDP, the same port). */
  readonly peer: Address
  readonly shards: number
  /** Empty when none is configured. */
  readonly rack: string
  /** Of the software. */
  readonly version: string
  readonly load: MemberLoad
}

/** Orders what is said of a node: the process first, then what this process has said of itself. Raised by its owner only. */
export interface ClaimVersion {
  /** Rises with every start of the node, so that nothing said of an old process touches a new one. */
  readonly bootId: number
  readonly incarnation: number
}

/** A record with the version its owner gave it. */
export interface Profile extends ClaimVersion {
  readonly record: MemberRecord
}

/** What is said of a node, by whomever. */
export interface Claim extends ClaimVersion {
  readonly nodeId: NodeId
  readonly state: MemberState
  /** For a suspect: who has found it silent, independently; ascending, the lowest few. Else empty. */
  readonly accusers: readonly NodeId[]
  /** Never null for one that is alive, and then of the same version. */
  readonly profile: Profile | null
}

/** How far a node has applied the metadata log, and a hash of what came of it. */
export interface MetadataDigest {
  readonly position: number
  readonly hash: number
}

/** Which leaders a node knows. */
export interface LeadershipDigest {
  /** Never falls, such as the version of the metadata that names the partitions: whoever has a higher one knows more of them. */
  readonly version: number
  readonly hash: number
}

interface Payload {
  /** What the sender itself has. */
  readonly metadata: MetadataDigest
  readonly leadership: LeadershipDigest
  readonly updates: readonly Claim[]
}

/** Small enough for one datagram; any of them may be lost, late or repeated. */
export type Datagram = Payload &
  (
    | { readonly kind: 'ping'; readonly sequence: number }
    /** Ping `target` for me. */
    | { readonly kind: 'pingRequest'; readonly sequence: number; readonly target: NodeId }
    | { readonly kind: 'ack'; readonly sequence: number }
    /** I have asked, and got no answer so far: but I am here. */
    | { readonly kind: 'nack'; readonly sequence: number }
    | { readonly kind: 'gossip' }
  )

/** Everything a node knows, over a stream; a request is answered with the same. */
export type StateMessage = Payload & { readonly kind: 'stateRequest' | 'stateReply' }

export type GossipMessage = Datagram | StateMessage

export interface MemberView extends ClaimVersion {
  readonly nodeId: NodeId
  readonly state: MemberState
  /** Null while only rumours of it were heard. */
  readonly record: MemberRecord | null
}

export type MemberChange =
  /** It is alive, or alive again, or a new process of it is. */
  | 'up'
  | 'suspect'
  | 'dead'
  | 'left'
  /** It says something else of itself than before. */
  | 'changed'
  /** It is no longer one of the cluster. */
  | 'removed'

/** What is to be done, in this order. */
export type GossipEffect =
  /** Losing it is no harm. Without an address it goes where the message that is being answered came from. */
  | { readonly kind: 'send'; readonly to: NodeId; readonly address: Address | null; readonly message: Datagram }
  /** Open a stream, send this, and hand the reply to `step`. `to` is 0 while nobody knows who is at the address. */
  | { readonly kind: 'exchange'; readonly to: NodeId; readonly address: Address | null; readonly message: StateMessage }
  /** Answer on the stream that the request came by. */
  | { readonly kind: 'answer'; readonly to: NodeId; readonly message: StateMessage }
  | GossipEvent

/** What others may want to know. Nothing here decides anything: it is a hint to look, or to ask. */
export type GossipEvent =
  | { readonly kind: 'member'; readonly change: MemberChange; readonly member: MemberView }
  /** That node has applied more of the metadata log. */
  | { readonly kind: 'pullMetadata'; readonly from: NodeId; readonly digest: MetadataDigest }
  /** That node knows leaders that this one does not. */
  | { readonly kind: 'pullLeadership'; readonly from: NodeId; readonly digest: LeadershipDigest }
  /** Both are at the same position and have come to something else: a bug, or a disk that lies. Apply nothing more. */
  | { readonly kind: 'metadataDiverged'; readonly from: NodeId; readonly digest: MetadataDigest }
  /** This node was called suspect, dead or left, and has contradicted. */
  | { readonly kind: 'refuted'; readonly accused: MemberState; readonly own: ClaimVersion }
  /** Somebody else speaks as this node, or its data directory was replaced by an older one. */
  | { readonly kind: 'contested'; readonly claim: ClaimVersion; readonly own: ClaimVersion }

export interface GossipOptions {
  readonly nodeId: NodeId
  /** From 1, and higher than at any start of this node before. */
  readonly bootId: number
  readonly record: MemberRecord
  /** Where members may be; asked for everything they know as long as no member is known there. */
  readonly seeds: readonly Address[]
  readonly limits: GossipLimits
  /** A whole number from 0 up to, and without, `bound`. */
  readonly random: (bound: number) => number
  /** Who may be a member; null while that is not known, and then anybody may. */
  readonly registry: ReadonlySet<NodeId> | null
  readonly nowMs: number
}

/** How often things happened, since the start. */
export interface GossipCounters {
  probes: number
  failedProbes: number
  refutations: number
  /** Members that this node found dead by itself. */
  deaths: number
  /** Claims and messages of nodes that are none of the cluster. */
  strangers: number
  /** Claims too far ahead of what is known. */
  farFuture: number
  /** Claims that contradict themselves. */
  invalid: number
}
