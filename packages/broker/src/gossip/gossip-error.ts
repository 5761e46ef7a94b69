// Why bytes of gossip are refused: what their sender, or whoever has changed them on the way, is told nothing of.

export type GossipErrorCode =
  /** Longer than anything of the kind may be, or too short for a seal. */
  | 'SIZE'
  /** Not gossip, or of a version that this node does not speak. */
  | 'VERSION'
  /** For another node. */
  | 'MISDIRECTED'
  /** Not from a member of the cluster. */
  | 'STRANGER'
  /** Sealed with a key that this node does not have. */
  | 'UNKNOWN_KEY'
  /** Not sealed with this key for this cluster, or changed on the way. */
  | 'FORGED'
  /** Seen before, or too old to tell. */
  | 'REPLAYED'
  /** Sealed as it should be, with contents that make no sense. */
  | 'CORRUPT'
  /** A key cannot be installed, used or removed so now. */
  | 'KEY'

export class GossipError extends Error {
  override readonly name = 'GossipError'
  constructor(
    readonly code: GossipErrorCode,
    message: string,
    options?: { cause?: unknown },
  ) {
    super(message, options)
  }
}
