// What the listener's side asks of whoever speaks with other brokers: to take over the connections that are theirs.
import type { Stream, StreamHandler } from '../environment.js'
import type { FrameReader } from './frame-reader.js'

export interface PeerAcceptor {
  /**
   * Takes over a connection whose first frame is PEER_HELLO, and its reader. Called inside that frame.
   * @param payload of PEER_HELLO; valid during the call.
   * @throws ProtocolError when the other one is not who it should be; the connection is then still the caller's.
   */
  accept(stream: Stream, reader: FrameReader, payload: Uint8Array): AcceptedPeer
}

/** A connection that was taken over. */
export interface AcceptedPeer extends StreamHandler {
  /** Something was thrown while bytes that came with PEER_HELLO were taken. */
  failed(error: unknown): void
  /** Sends what is queued, then closes. */
  close(): void
}
