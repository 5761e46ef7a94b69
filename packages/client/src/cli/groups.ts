// `millrace group`: who reads what, how far behind, and having a group go on elsewhere.
import type { GroupDescription } from '../admin.js'
import { withAdmin } from './administration.js'
import { roughTime } from './amounts.js'
import { readStart } from './consume.js'
import { CommandError, EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { countOf, printJson, printTable } from './print.js'
import type { Session } from './session.js'
import type { Column } from './table.js'
import { confirm } from './topics.js'

const groupOf = ({ line }: Session): string => line.arguments[0] ?? ''

export async function listGroups(session: Session): Promise<ExitCode> {
  const groups = await withAdmin(session, (cluster) => cluster.listGroups())
  if (session.line.json) printJson(session, { groups })
  else {
    const columns = [
      { title: 'group' },
      { title: 'state' },
      { title: 'members', align: 'right' },
      { title: 'topics' },
    ] as const
    printTable(
      session,
      columns,
      groups.map(({ group, state, members, topics }) => [group, state, String(members), topics.join(',') || '-']),
    )
  }
  return EXIT.ok
}

const PARTITION_COLUMNS: readonly Column[] = [
  { title: 'topic' },
  { title: 'partition', align: 'right' },
  { title: 'member' },
  { title: 'committed', align: 'right' },
  { title: 'next offset', align: 'right' },
  { title: 'lag', align: 'right' },
  { title: 'ago', align: 'right' },
]

export async function describeGroup(session: Session): Promise<ExitCode> {
  const description = await withAdmin(session, (cluster) => cluster.describeGroup(groupOf(session)))
  if (session.line.json) {
    printJson(session, description)
    return EXIT.ok
  }
  if (session.output.isTerminal) void session.output.writeText(headOf(description))
  const nowMs = Date.now()
  const text = (value: number | null): string => (value === null ? '-' : String(value))
  const rows = description.partitions.map((one) => [
    one.topic,
    String(one.partition),
    one.member ?? '-',
    text(one.committedOffset),
    text(one.highWatermark),
    text(one.lag),
    one.committedAtMs === null ? '-' : roughTime(Math.max(0, nowMs - one.committedAtMs)),
  ])
  printTable(session, PARTITION_COLUMNS, rows)
  return EXIT.ok
}

function headOf({ group, state, members, partitions }: GroupDescription): string {
  const lag = partitions.reduce((sum, one) => sum + (one.lag ?? 0), 0)
  const lines = members.map(({ clientId, name, id, partitions: own }) => {
    return `  ${clientId}${name === null ? '' : ` (${name})`}: ${countOf(own.length, 'partition')}, member ${id}\n`
  })
  return `${group}: ${state}, ${countOf(members.length, 'member')}, lag ${lag}\n${lines.join('')}\n`
}

export async function resetGroup(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const topic = line.arguments[1] ?? ''
  if (line.values.to === undefined) throw new UsageError('group reset needs --to', 'group reset')
  const to = readStart(line.values.to, 'to', 'group reset')
  const partitions = readPartitions(line.values.partitions)
  const offsets = await withAdmin(session, (cluster) =>
    cluster.resetGroup(groupOf(session), { topic, to, ...(partitions && { partitions }) }),
  )
  const entries = [...offsets].map(([partition, offset]) => ({ partition, offset }))
  if (line.json) printJson(session, { group: groupOf(session), topic, offsets: entries })
  else for (const { partition, offset } of entries) void output.writeText(`${topic}/${partition}\t${offset}\n`)
  return EXIT.ok
}

function readPartitions(text: string | undefined): number[] | null {
  if (text === undefined) return null
  if (/^\d+(,\d+)*$/.test(text)) return text.split(',').map(Number)
  throw new UsageError(`--partitions is a list like 0,3, not ${text}`, 'group reset')
}

export async function deleteGroup(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const group = groupOf(session)
  if (!line.yes && !(await confirm(session, `Forget ${group} and all that it has committed?`))) {
    if (session.interrupted.aborted) return EXIT.interrupted
    throw new CommandError(EXIT.failure, 'nothing was deleted')
  }
  await withAdmin(session, (cluster) => cluster.deleteGroup(group))
  if (line.json) printJson(session, { group, deleted: true })
  else void output.writeText(`deleted ${group}\n`)
  return EXIT.ok
}
