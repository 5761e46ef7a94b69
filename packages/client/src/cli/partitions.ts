// `millrace partition`: where partitions are kept, and how far those on their way are.
import type { Admin, PartitionMove } from '../admin.js'
import { withAdmin } from './administration.js'
import { readArgument } from './command-line.js'
import { EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { printJson, printTable } from './print.js'
import type { Session } from './session.js'
import type { Column } from './table.js'
import { untilDone } from './waiting.js'

const COLUMNS: readonly Column[] = [
  { title: 'topic' },
  { title: 'partition', align: 'right' },
  { title: 'to' },
  { title: 'kept by' },
  { title: 'learning' },
  { title: 'lag', align: 'right' },
]

export async function listMoves(session: Session): Promise<ExitCode> {
  const moves = await withAdmin(session, (cluster) => cluster.moves())
  if (session.line.json) printJson(session, { moves })
  else printTable(session, COLUMNS, moves.map(rowOf))
  return EXIT.ok
}

function rowOf(move: PartitionMove): string[] {
  const { topic, partition, target, hasLeader, learners, replicas } = move
  const lag = hasLeader ? lagOf(replicas) : '-'
  return [topic, String(partition), target.join(','), keepersOf(move), learners.join(',') || '-', lag]
}

/** Without a leader nobody knows for certain. */
function keepersOf({ hasLeader, voters }: PartitionMove): string {
  const known = voters.join(',')
  if (hasLeader) return known
  return known === '' ? 'no leader' : `no leader (${known})`
}

function lagOf(replicas: PartitionMove['replicas']): string {
  const lags = replicas.map(({ lagBatches }) => lagBatches)
  return lags.includes(null) ? 'unknown' : String(Math.max(0, ...lags.map(Number)))
}

export async function movePartition(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const partition = readArgument(line, 1, 'PARTITION', 0)
  const isCancelled = line.switches.has('cancel')
  const to = isCancelled ? [] : readNodes(session)
  return withAdmin(session, async (cluster) => {
    const keepers = isCancelled ? await cluster.cancelMove(line.topic, partition) : to
    if (!isCancelled) await cluster.movePartition(line.topic, partition, to)
    if (line.switches.has('wait')) await untilArrived(session, cluster, partition)
    if (line.json) printJson(session, { topic: line.topic, partition, to: keepers })
    else void output.writeText(`partition ${partition} of ${line.topic} is kept by ${keepers.join(', ')}\n`)
    return EXIT.ok
  })
}

function readNodes({ line }: Session): readonly number[] {
  const texts = line.values.to?.split(',').map((text) => text.trim()) ?? []
  if (texts.length === 0 || !texts.every((text) => /^[1-9]\d{0,9}$/.test(text))) {
    throw new UsageError('--to needs nodes, such as 1,2,3; or --cancel', 'partition move')
  }
  return texts.map(Number)
}

function untilArrived(session: Session, cluster: Admin, partition: number): Promise<void> {
  return untilDone(session, async () => {
    const moves = await cluster.moves()
    const move = moves.find((one) => one.topic === session.line.topic && one.partition === partition)
    if (move === undefined) return null
    const learning = move.learners.length === 0 ? '' : `, ${move.learners.join(',')} learn, lag ${lagOf(move.replicas)}`
    const to = move.target.join(',')
    if (!move.hasLeader) return `no leader, to ${to}: it goes on when most of those who have it are up`
    return `kept by ${keepersOf(move)}, to ${to}${learning}`
  })
}
