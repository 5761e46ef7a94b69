// `millrace cluster members` and `millrace broker`: who belongs to the cluster, and taking brokers out of it.
import type { Admin, MemberDescription } from '../admin.js'
import { withAdmin } from './administration.js'
import { roughTime } from './amounts.js'
import { readArgument } from './command-line.js'
import { CommandError, EXIT, type ExitCode } from './exit-codes.js'
import { countOf, printJson, printTable } from './print.js'
import type { Session } from './session.js'
import type { Column } from './table.js'
import { untilDone } from './waiting.js'

const COLUMNS: readonly Column[] = [
  { title: 'node', align: 'right' },
  { title: 'address' },
  { title: 'rack' },
  { title: 'state' },
  { title: 'life' },
  { title: 'for', align: 'right' },
  { title: 'votes' },
  { title: 'replicas', align: 'right' },
  { title: 'led', align: 'right' },
  { title: 'moving', align: 'right' },
]

export async function clusterMembers(session: Session): Promise<ExitCode> {
  const members = await withAdmin(session, (cluster) => cluster.members())
  if (session.line.json) printJson(session, { members })
  else printTable(session, COLUMNS, members.map(rowOf))
  return EXIT.ok
}

function rowOf(member: MemberDescription): string[] {
  const { nodeId, host, port, rack, state, alive, life, lifeForMs, votes, replicas, partitionsLed, moving } = member
  const shown =
    state === 'removed' ? '-' : alive || (life !== null && life !== 'alive') ? (life ?? 'alive') : 'not heard'
  const since = state === 'removed' || lifeForMs === null || shown !== life ? '-' : roughTime(lifeForMs)
  const counts = [replicas, partitionsLed, moving].map(String)
  return [String(nodeId), `${host}:${port}`, rack ?? '-', state, shown, since, votes ? 'yes' : 'no', ...counts]
}

export async function drainBroker(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const nodeId = readArgument(line, 0, 'NODE', 1)
  const undo = line.switches.has('undo')
  return withAdmin(session, async (cluster) => {
    const { moves, waiting } = await cluster.drainBroker(nodeId, { undo })
    if (!undo && line.switches.has('wait')) await untilEmpty(session, cluster, nodeId)
    if (line.json) printJson(session, { nodeId, undo, moves, waiting })
    else if (undo)
      void output.writeText(`node ${nodeId} is like any other again; what has gone elsewhere stays there\n`)
    else
      void output.writeText(
        `${countOf(moves, 'partition')} of node ${nodeId} go elsewhere${waitingText(session, waiting)}\n`,
      )
    return EXIT.ok
  })
}

/** Who waited has asked again until nothing was left. */
function waitingText({ line }: Session, waiting: number): string {
  if (waiting === 0 || line.switches.has('wait')) return ''
  return `; ${countOf(waiting, 'partition')} never had a leader: drain it again once they have one`
}

/** Nothing is to be on the node, nothing is still, and it has no say in the metadata. */
function untilEmpty(session: Session, cluster: Admin, nodeId: number): Promise<void> {
  return untilDone(session, async () => {
    const member = (await cluster.members()).find((one) => one.nodeId === nodeId)
    if (member === undefined) throw new CommandError(EXIT.notFound, `there is no node ${nodeId}`)
    if (member.state === 'active') throw new CommandError(EXIT.failure, `node ${nodeId} is not drained any more`)
    // Partitions that never had a leader go along as soon as they have one.
    if (member.replicas > 0) await cluster.drainBroker(nodeId)
    const left = member.replicas + member.moving
    if (left === 0 && !member.votes) return null
    return left > 0 ? `${countOf(left, 'partition')} left on node ${nodeId}` : `node ${nodeId} still votes`
  })
}

const STILL_COUNTED =
  '; the metadata group counts on it until another broker can take its place: until then do not lose another one'

export async function removeBroker(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const nodeId = readArgument(line, 0, 'NODE', 1)
  const force = line.switches.has('force')
  const { decides } = await withAdmin(session, (cluster) => cluster.removeBroker(nodeId, { force }))
  if (line.json) printJson(session, { nodeId, removed: true, votes: decides })
  else void output.writeText(`node ${nodeId} is removed for good${decides ? STILL_COUNTED : ''}\n`)
  return EXIT.ok
}
