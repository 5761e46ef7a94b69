// How a broker with an empty directory becomes a node of a cluster that runs: it asks any of its brokers for an id.
import { ProtocolError } from '@millrace/protocol'
import type { NodePlace } from '../cluster/metadata-command.js'
import { type Environment, NetworkError } from '../environment.js'
import { count, list, text, wrong } from '../fields.js'
import { JOIN_ATTEMPT_MS, JOIN_RETRY_MS, JOIN_TIMEOUT_MS } from '../limits.js'
import type { Member } from '../members.js'
import type { Fields } from '../message-pack.js'
import { StartError } from '../start-error.js'
import { type Address, showAddress } from './addresses.js'
import { callAdmin } from './admin-call.js'

export interface JoinRequest extends NodePlace {
  readonly diskId: string
}

/** Who the broker is from now on. */
export interface JoinAnswer {
  readonly clusterId: string
  readonly nodeId: number
  /** All nodes, this one among them. */
  readonly members: readonly Member[]
  readonly removed: readonly number[]
}

/**
 * Asks one broker after the other until one answers.
 * @param clusterId the cluster that is meant, where the operator says it.
 * @throws StartError NOT_JOINED with what each of them said.
 */
export async function joinCluster(
  environment: Environment,
  addresses: readonly Address[],
  request: JoinRequest,
  clusterId?: string,
): Promise<JoinAnswer> {
  const { clock, log } = environment
  const deadline = clock.monotonicMs() + JOIN_TIMEOUT_MS
  while (true) {
    const reasons: string[] = []
    for (const address of addresses) {
      const answer = await askOnce(environment, address, request, clusterId)
      if (typeof answer !== 'string') return answer
      reasons.push(answer)
    }
    if (clock.monotonicMs() >= deadline) throw notJoined(reasons)
    log.info({ reasons }, 'no broker lets this one join yet')
    await new Promise<void>((resolve) => clock.timer(JOIN_RETRY_MS, resolve))
  }
}

/**
 * @returns why it did not work this time, where it may work later or elsewhere.
 * @throws StartError NOT_JOINED where it never will.
 */
async function askOnce(
  environment: Environment,
  address: Address,
  request: JoinRequest,
  clusterId: string | undefined,
): Promise<JoinAnswer | string> {
  const fields = { ...request }
  const call = { ...address, operation: 'joinCluster', fields, timeoutMs: JOIN_ATTEMPT_MS } as const
  try {
    return decodeAnswer(await callAdmin(environment, { ...call, ...(clusterId && { clusterId }) }))
  } catch (error) {
    if (!(error instanceof ProtocolError || error instanceof NetworkError)) throw error
    const reason = `${showAddress(address)}: ${error.message}`
    if (error instanceof ProtocolError && !error.retriable) throw notJoined([reason])
    return reason
  }
}

function notJoined(reasons: readonly string[]): StartError {
  const detail = reasons.length === 0 ? '--join names nobody' : reasons.join('; ')
  return new StartError('NOT_JOINED', `the cluster could not be joined: ${detail}`)
}

/** @throws ProtocolError INVALID_REQUEST */
function decodeAnswer(fields: Fields): JoinAnswer {
  return {
    clusterId: text(fields, 'clusterId'),
    nodeId: count(fields, 'nodeId'),
    members: list(fields, 'members', decodeMember),
    removed: list(fields, 'removed', (nodeId) => (typeof nodeId === 'number' ? nodeId : wrong('removed'))),
  }
}

function decodeMember(value: unknown): Member {
  if (typeof value !== 'object' || value === null) return wrong('members')
  const fields = value as Fields
  return { nodeId: count(fields, 'nodeId'), host: text(fields, 'host'), port: count(fields, 'port') }
}
