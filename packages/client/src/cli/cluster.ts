// `millrace cluster`: what its brokers say of the cluster, and whether all is well.
import { admin, type ClusterStatus } from '../admin.js'
import { EXIT, type ExitCode } from './exit-codes.js'
import { countOf, printJson, printTable } from './print.js'
import { type Session, withClient } from './session.js'
import type { Column } from './table.js'

const COLUMNS: readonly Column[] = [
  { title: 'node', align: 'right' },
  { title: 'address' },
  { title: 'state' },
  { title: 'heard ms ago', align: 'right' },
  { title: 'partitions led', align: 'right' },
]

const ask = (session: Session): Promise<ClusterStatus> => withClient(session, (mill) => admin(mill).clusterStatus())

export async function clusterStatus(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const status = await ask(session)
  if (line.json) {
    printJson(session, status)
    return EXIT.ok
  }
  if (output.isTerminal) void output.writeText(`${summaryOf(status)}\n\n`)
  const rows = status.nodes.map(({ nodeId, host, port, alive, heardMsAgo, partitionsLed }) => [
    String(nodeId),
    `${host}:${port}`,
    alive ? 'alive' : 'not heard from',
    heardMsAgo === null ? '-' : String(Math.round(heardMsAgo)),
    String(partitionsLed),
  ])
  printTable(session, COLUMNS, rows)
  return EXIT.ok
}

/** Ends with 8 unless every partition has a leader and all its replicas. */
export async function clusterHealth(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const status = await ask(session)
  const problems = problemsOf(status)
  const healthy = problems.length === 0
  const { leaderless, underReplicated } = status
  if (line.json) printJson(session, { healthy, leaderless, underReplicated, problems })
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
function problemsOf({ nodes, metadata, leaderless, underReplicated }: ClusterStatus): string[] {
  const problems: string[] = []
  if (leaderless > 0) problems.push(`${countOf(leaderless, 'partition')} without a leader`)
  if (underReplicated > 0) problems.push(`${countOf(underReplicated, 'partition')} under-replicated`)
  if (metadata.leader === 0) problems.push('the metadata has no leader, so nothing can be changed')
  for (const { nodeId, alive } of nodes) if (!alive) problems.push(`node ${nodeId} is not heard from`)
  return problems
}
