// The members of a cluster as configuration gives them: who they are, where each is reached, and the id they share.
import { MAX_MEMBERS } from './limits.js'
import { isLoopback } from './loopback.js'
import { StartError } from './start-error.js'

export interface Member {
  /** From 1 to 2^32 - 2. */
  readonly nodeId: number
  /** What clients and the other members connect to. */
  readonly host: string
  readonly port: number
}

/** As much of a configuration as members have to agree with. */
export interface MemberSettings {
  readonly members?: readonly Member[]
  readonly nodeId?: number
  readonly host?: string
  readonly port?: number
  readonly advertisedHost?: string
  readonly advertisedPort?: number
}

const MOST_NODE_ID = 0xffff_fffe
const MOST_PORT = 65_535
const EVERYWHERE = new Set(['0.0.0.0', '::'])

/**
 * The list of `--members`: `1=10.0.0.1:7420,2=[fd00::2]:7420`, or in a file `[{ "nodeId": 1, "host": …, "port": … }]`.
 * @throws RangeError that says what is accepted.
 */
export function readMembers(value: unknown): readonly Member[] {
  const items: readonly unknown[] = typeof value === 'string' ? value.split(',') : Array.isArray(value) ? value : []
  const members = items.map((item) => (typeof item === 'string' ? memberOfText(item) : memberOfFields(item)))
  if (members.length === 0) throw unreadable()
  return members
}

function memberOfText(item: string): Member {
  const match = /^(\d{1,10})=(?:\[([0-9a-fA-F:.]+)\]|([^[\]:=\s]+)):(\d{1,5})$/.exec(item.trim())
  if (match === null) throw unreadable()
  return memberOfFields({ nodeId: Number(match[1]), host: match[2] ?? match[3], port: Number(match[4]) })
}

function memberOfFields(item: unknown): Member {
  if (typeof item !== 'object' || item === null) throw unreadable()
  const { nodeId, host, port, ...unknown }: Record<string, unknown> = { ...item }
  if (Object.keys(unknown).length > 0 || typeof host !== 'string' || host === '' || /[\s,=]/.test(host)) {
    throw unreadable()
  }
  if (!isWhole(nodeId, MOST_NODE_ID) || !isWhole(port, MOST_PORT)) throw unreadable()
  return { nodeId, host, port }
}

const isWhole = (value: unknown, most: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= 1 && value <= most

function unreadable(): RangeError {
  return new RangeError('a list of node ids and addresses, such as 1=10.0.0.1:7420,2=10.0.0.2:7420')
}

/**
 * Holds a list of members against itself and against the other settings.
 * @returns this node's own entry, or null when there is no list.
 * @throws StartError INVALID_CONFIG for an id or address that comes twice, a list without this node, and an own entry
 * that is not where this node listens.
 */
export function ownMember(settings: MemberSettings): Member | null {
  const { members, nodeId } = settings
  if (members === undefined) return null
  checkList(members)
  if (nodeId === undefined) throw invalid('with --members a node has to know which one it is: add --node-id')
  const own = members.find((member) => member.nodeId === nodeId)
  if (own === undefined) {
    const ids = members.map((member) => member.nodeId).join(', ')
    throw invalid(`--node-id is ${nodeId}, and --members names only ${ids}: every list names this node too`)
  }
  checkListening(own, settings)
  return own
}

/**
 * The same settings with this node's addresses filled in from the list, where it has one.
 * @throws StartError INVALID_CONFIG as `ownMember` does.
 */
export function withOwnAddress<S extends MemberSettings>(settings: S): S {
  const own = ownMember(settings)
  if (own === null) return settings
  const { host, port } = own
  return { ...settings, host: settings.host ?? host, port, advertisedHost: host, advertisedPort: port }
}

function checkList(members: readonly Member[]): void {
  if (members.length === 0 || members.length > MAX_MEMBERS) {
    throw invalid(`--members names ${members.length} nodes; it can be from 1 to ${MAX_MEMBERS}`)
  }
  const ids = new Set<number>()
  const addresses = new Map<string, number>()
  for (const member of members) {
    const { nodeId } = member
    if (ids.has(nodeId)) throw invalid(`--members names node ${nodeId} twice`)
    ids.add(nodeId)
    const address = addressOf(member)
    const other = addresses.get(address)
    if (other !== undefined) throw invalid(`--members has ${address} for node ${other} and for node ${nodeId}`)
    addresses.set(address, nodeId)
  }
}

/** What is left out is taken from the list; what is given has to agree with it. */
function checkListening(own: Member, settings: MemberSettings): void {
  const { host = own.host, port = own.port, advertisedHost = own.host, advertisedPort = own.port } = settings
  const listed = `--members has ${addressOf(own)} for this node`
  if (port !== own.port) throw invalid(`--port is ${port}, and ${listed}: make them the same, or leave --port out`)
  if (!canBeReachedAt(own.host, host)) {
    throw invalid(`--host is ${host}, and ${listed}: make them the same, leave --host out, or listen on 0.0.0.0`)
  }
  if (advertisedHost !== own.host || advertisedPort !== own.port) {
    throw invalid(`--advertise is ${advertisedHost}:${advertisedPort}, and ${listed}: leave --advertise out`)
  }
}

/** A name may stand for any address but loopback; two numbers have to be the same one. */
function canBeReachedAt(host: string, listening: string): boolean {
  if (host === listening || EVERYWHERE.has(listening)) return true
  if (isLoopback(host) || isLoopback(listening)) return isLoopback(host) && isLoopback(listening)
  return !isNumeric(host) || !isNumeric(listening)
}

const isNumeric = (host: string): boolean => host.includes(':') || /^\d+(\.\d+){3}$/.test(host)

function addressOf({ host, port }: Member): string {
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

function invalid(message: string): StartError {
  return new StartError('INVALID_CONFIG', message)
}

const FNV_OFFSET = 0x6c62272e07bb014262b821756295c58dn
const FNV_PRIME = 0x0000000001000000000000000000013bn
const MASK = (1n << 128n) - 1n

/**
 * The id of the cluster that these members begin when none is given: the same on each of them, whatever the order of
 * the list. It has to be distinct and not secret. 32 hexadecimal digits (FNV-1a of 128 bits,
 * http://www.isthe.com/chongo/tech/comp/fnv/).
 */
export function clusterIdOf(members: readonly Member[]): string {
  const lines = [...members].sort((left, right) => left.nodeId - right.nodeId)
  const text = lines.map((member) => `${member.nodeId}=${addressOf(member)}\n`).join('')
  let hash = FNV_OFFSET
  for (const byte of new TextEncoder().encode(text)) hash = ((hash ^ BigInt(byte)) * FNV_PRIME) & MASK
  return hash.toString(16).padStart(32, '0')
}
