// Stands at a test's listener: hands every connection whose first frame is PEER_HELLO to the peers, and refuses others,
// as a server's connection does.
import { ERROR_TABLE, encodeFrame, type FrameHeader, failure, ProtocolError, peerHello } from '@millrace/protocol'
import type { Block, Stream, StreamHandler } from '#src/environment.js'
import { type FrameOwner, FrameReader, type PayloadPlace } from '#src/server/frame-reader.js'
import type { AcceptedPeer, PeerAcceptor } from '#src/server/peer-acceptor.js'

export class Doorman implements StreamHandler, FrameOwner {
  session: AcceptedPeer | null = null
  refusal: ProtocolError | null = null
  readonly #reader: FrameReader

  constructor(
    readonly stream: Stream,
    readonly peers: PeerAcceptor,
  ) {
    this.#reader = new FrameReader(stream, this)
  }

  onBytes(chunk: Uint8Array): void {
    if (this.session !== null) this.session.onBytes(chunk)
    else this.#attempt(() => this.#reader.push(chunk))
  }
  onFilled(): void {
    this.session?.onFilled()
  }
  onClosed(error: Error | null): void {
    this.session?.onClosed(error)
  }

  #attempt(work: () => void): void {
    try {
      work()
    } catch (error) {
      if (this.session !== null) {
        this.session.failed(error)
        return
      }
      if (!(error instanceof ProtocolError)) throw error
      this.refusal = error
      this.#reader.stop()
      this.stream.write(
        encodeFrame(failure, { code: ERROR_TABLE[error.code].code, answeredKind: 0, detail: error.detail }, { id: 0 }),
      )
      this.stream.end()
    }
  }

  mayBegin(): boolean {
    return true
  }
  checkFirstBytes(): void {}
  placeOf(header: FrameHeader): PayloadPlace {
    if (header.kind !== peerHello.kind) throw new ProtocolError('HELLO_REQUIRED', `kind ${header.kind} came first`)
    return 'heap'
  }
  allocate(): Block | null {
    return null
  }
  onFrame(_header: FrameHeader, payload: Uint8Array): void {
    this.session = this.peers.accept(this.stream, this.#reader, payload)
  }
}
