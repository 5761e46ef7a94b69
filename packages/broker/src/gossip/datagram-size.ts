// How much of a datagram is not claims: what the seal and the message itself take.

/** In front of what is encrypted: see sealing.ts. */
export const SEAL_HEADER_BYTES = 36
export const SEAL_TAG_BYTES = 16
/** Kind, sequence, target, both digests and the count of claims: see message-codec.ts. */
export const MESSAGE_HEADER_BYTES = 1 + 4 + 4 + 12 + 12 + 1

export const DATAGRAM_OVERHEAD_BYTES = SEAL_HEADER_BYTES + MESSAGE_HEADER_BYTES + SEAL_TAG_BYTES
/** So that one byte counts the claims of a datagram. */
export const MAX_DATAGRAM_CLAIMS = 255
