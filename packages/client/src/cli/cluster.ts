// `millrace cluster`: what its brokers say of the cluster, and whether all is well.
import type { ClusterStatus, NodeStatus } from '../admin.js'
import { withAdmin } from './administration.js'
import { roughSize, roughTime } from './amounts.js'
import { EXIT, type ExitCode } from './exit-codes.js'
import { countOf, printJson, printTable } from './print.js'
import type { Session } from './session.js'
import type { Column } from './table.js'

const COLUMNS: readonly Column[] = [
  { title: 'node', align: 'right' },
  { title: 'address' },
  { title: 'state' },
  { title: 'for', align: 'right' },
  { title: 'heard ms ago', align: 'right' },
  { title: 'partitions led', align: 'right' },
  { title: 'bytes a second', align: 'right' },
  { title: 'disk free', align: 'right' },
]

const ask = (session: Session): Promise<ClusterStatus> => withAdmin(session, (cluster) => cluster.clusterStatus())

export async function clusterStatus(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const status = await ask(session)
  if (line.json) {
    printJson(session, status)
    return EXIT.ok
  }
  if (output.isTerminal) void output.writeText(`${summaryOf(status)}\n\n`)
  const rows = status.nodes.map((node) => [
    String(node.nodeId),
    `${node.host}:${node.port}`,
    stateOf(node),
    node.lifeForMs === null ? '-' : roughTime(node.lifeForMs),
    node.heardMsAgo === null ? '-' : String(Math.round(node.heardMsAgo)),
    String(node.partitionsLed),
    node.load === null ? '-' : roughSize(node.load.bytesPerSecond),
    node.load === null ? '-' : roughSize(node.load.freeDiskBytes),
  ])
  printTable(session, COLUMNS, rows)
  return EXIT.ok
}

/** What the brokers say of it; where it is not heard from although nobody has found it dead, that. */
function stateOf({ alive, life }: NodeStatus): string {
  if (life === null) return alive ? 'alive' : 'not heard from'
  return life === 'alive' && !alive ? 'not heard from' : life
}

/** Ends with 8 unless every partition has a leader and all its replicas. */
export async function clusterHealth(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const status = await ask(session)
  const problems = problemsOf(status)
  const healthy = problems.length === 0
  const { leaderless, underReplicated, lacking } = status
  if (line.json) printJson(session, { healthy, leaderless, underReplicated, lacking, problems })
  else void output.writeText(healthy ? 'healthy\n' : `unhealthy: ${problems.join('; ')}\n`)
  return healthy ? EXIT.ok : EXIT.unhealthy
}

function summaryOf({ clusterId, nodes, metadata, leaderless, underReplicated }: ClusterStatus): string {
  const alive = nodes.filter((node) => node.alive).length
  const led = metadata.leader === 0 ? 'no metadata leader' : `metadata led by node ${metadata.leader}`
  return (
    `cluster ${clusterId}: ${alive} of ${countOf(nodes.length, 'node')} alive, ` +
    `${led} in term ${metadata.term} at version ${metadata.version}, ` +
    `${countOf(leaderless, 'partition')} without a leader, ${underReplicated} under-replicated`
  )
}

/** In words, the worst first. */
function problemsOf({ nodes, metadata, leaderless, underReplicated, lacking }: ClusterStatus): string[] {
  const problems: string[] = []
  if (leaderless > 0) problems.push(`${countOf(leaderless, 'partition')} without a leader`)
  if (underReplicated > 0) problems.push(`${countOf(underReplicated, 'partition')} under-replicated`)
  for (const { nodeId, topic, partition, reason } of lacking) {
    problems.push(`node ${nodeId} does not serve its replica of partition ${partition} of ${topic}: ${reason}`)
  }
  if (metadata.leader === 0) problems.push('the metadata has no leader, so nothing can be changed')
  for (const node of nodes) {
    const problem = problemOf(node)
    if (problem !== null) problems.push(`node ${node.nodeId} ${problem}`)
  }
  return problems
}

function problemOf(node: NodeStatus): string | null {
  const state = stateOf(node)
  if (state === 'alive') return null
  if (state !== node.life) return 'is not heard from'
  const since = roughTime(node.lifeForMs ?? 0)
  return state === 'left' ? `was stopped ${since} ago` : `has been ${state} for ${since}`
}
