// Changes to the metadata, wherever they are asked for: carried out here when this node leads the metadata, and sent to
// the node that does otherwise.
import { ProtocolError } from '@millrace/protocol'
import type { Clock } from '../environment.js'
import { DEFAULT_MAP_WAIT_MS, LEADER_RETRY_MS } from '../limits.js'
import { decodeFields, encodeMessagePack, type Fields } from '../message-pack.js'
import { ForwardError } from '../peers/forward-calls.js'
import type { MetadataLog } from './metadata-log.js'

/** The way to another node; a request whose link is lost may or may not have been carried out. */
export interface Forwarder {
  isConnected(nodeId: number): boolean
  /** @throws ProtocolError as the other node refuses it; ForwardError when it did not answer. */
  forward(to: number, payload: Uint8Array, timeoutMs: number): Promise<Uint8Array>
}

/** Carries out an operation on this node. @throws ProtocolError, StorageError. */
export type LocalOperation = (operation: string, fields: Fields) => Promise<unknown>

export interface MetadataLeaderOptions {
  readonly metadata: MetadataLog
  readonly forwarder: Forwarder
  readonly clock: Clock
  readonly local: LocalOperation
}

export interface ClusterAnswer {
  readonly result: unknown
  /** Metadata version after the operation. */
  readonly version: number
}

export class MetadataLeader {
  readonly #options: MetadataLeaderOptions

  constructor(options: MetadataLeaderOptions) {
    this.#options = options
  }

  /** @throws ProtocolError, StorageError; NOT_LEADER when nobody leads the metadata for as long as the caller has time. */
  async perform(operation: string, fields: Fields, expiresAtMs: number): Promise<ClusterAnswer> {
    const { metadata, forwarder, clock, local } = this.#options
    const deadline = Math.min(expiresAtMs, clock.monotonicMs() + DEFAULT_MAP_WAIT_MS)
    while (true) {
      if (metadata.leads) return { result: await local(operation, fields), version: metadata.version }
      // Without others nobody else will ever lead.
      if (metadata.isSole && metadata.failure !== null) throw metadata.failure
      const { leader } = metadata
      if (leader !== 0 && forwarder.isConnected(leader)) {
        const answer = await this.#ask(leader, operation, fields, deadline - clock.monotonicMs())
        if (answer !== 'not leading') return answer
      }
      if (clock.monotonicMs() >= deadline) {
        throw new ProtocolError('NOT_LEADER', 'nobody leads the metadata: most of the brokers have to be up')
      }
      await new Promise<void>((resolve) => clock.timer(LEADER_RETRY_MS, resolve))
    }
  }

  /** Asks one node, which need not lead anything. @throws ProtocolError. */
  async askNode(nodeId: number, operation: string, fields: Fields, timeoutMs: number): Promise<unknown> {
    const answer = await this.#ask(nodeId, operation, fields, timeoutMs)
    if (answer === 'not leading') throw new ProtocolError('NOT_LEADER', `node ${nodeId} does not lead`)
    return answer.result
  }

  async #ask(
    nodeId: number,
    operation: string,
    fields: Fields,
    timeoutMs: number,
  ): Promise<ClusterAnswer | 'not leading'> {
    const request = encodeMessagePack({ operation, fields })
    try {
      const reply = await this.#options.forwarder.forward(nodeId, request, Math.max(1, Math.ceil(timeoutMs)))
      const { result, version } = decodeFields(reply)
      return { result, version: typeof version === 'number' ? version : 0 }
    } catch (error) {
      if (error instanceof ProtocolError && error.code === 'NOT_LEADER') return 'not leading'
      if (!(error instanceof ForwardError)) throw error
      if (error.code === 'notSent') return 'not leading'
      throw new ProtocolError('NOT_LEADER', `${error.message}: it may have been done or not`)
    }
  }

  /** An operation that another node has sent. @throws ProtocolError, StorageError. */
  async onForward(payload: Uint8Array): Promise<Uint8Array> {
    const { metadata, local } = this.#options
    const { operation, fields } = decodeFields(payload)
    if (typeof operation !== 'string' || typeof fields !== 'object' || fields === null) {
      throw new ProtocolError('INVALID_REQUEST', 'an operation without a name')
    }
    const result = await local(operation, fields as Fields)
    return encodeMessagePack({ result, version: metadata.version })
  }
}
