// `millrace topic`: create, list, describe and delete.
import { once } from 'node:events'
import { createInterface } from 'node:readline/promises'
import { CODEC_NAMES, type CodecName, isReservedTopicName, MAX_PARTITIONS_PER_TOPIC } from '@millrace/protocol'
import type { PartitionDescription, TopicRetention } from '../admin.js'
import { withAdmin } from './administration.js'
import { readBytes, readDuration, sizeText, timeText } from './amounts.js'
import { readChoice, readInteger } from './command-line.js'
import { CommandError, EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { countOf, printJson, printTable } from './print.js'
import type { Session } from './session.js'
import type { Column } from './table.js'

export async function createTopic(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const partitions = readInteger(line, 'partitions', 1) ?? 1
  if (partitions > MAX_PARTITIONS_PER_TOPIC) {
    throw new UsageError(`--partitions is at most ${MAX_PARTITIONS_PER_TOPIC}`, 'topic create')
  }
  const replicas = readInteger(line, 'replicas', 1)
  const durability = readChoice(line, 'durability', ['flushed', 'buffered'])
  const codecs = line.values.codecs?.split(',').map((name) => readCodec(name.trim()))
  const created = await withAdmin(session, (cluster) =>
    cluster.createTopic(line.topic, {
      partitions,
      ...(replicas !== undefined && { replicas }),
      ...(durability && { durability }),
      ...(codecs && { codecs }),
      retentionMs: readDuration(line, 'retention'),
      retentionBytes: readBytes(line, 'retention-bytes'),
    }),
  )
  if (line.json) printJson(session, created)
  else void output.writeText(`created ${created.name} with ${countOf(created.partitions, 'partition')}\n`)
  return EXIT.ok
}

function readCodec(name: string): CodecName {
  const codec = CODEC_NAMES.find((known) => known === name)
  if (codec !== undefined) return codec
  throw new UsageError(`--codecs is a list of ${CODEC_NAMES.join(', ')}, not ${JSON.stringify(name)}`, 'topic create')
}

export async function listTopics(session: Session): Promise<ExitCode> {
  const all = await withAdmin(session, (cluster) => cluster.listTopics())
  const topics = all.filter(({ name }) => session.line.switches.has('internal') || !isReservedTopicName(name))
  topics.sort((left, right) => (left.name < right.name ? -1 : 1))
  if (session.line.json) printJson(session, { topics })
  else {
    const columns = [
      { title: 'topic' },
      { title: 'partitions', align: 'right' },
      { title: 'durability' },
      { title: 'codecs' },
    ] as const
    printTable(
      session,
      columns,
      topics.map((topic) => [topic.name, String(topic.partitions), topic.durability, topic.codecs.join(',')]),
    )
  }
  return EXIT.ok
}

export async function describeTopic(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const topic = await withAdmin(session, (cluster) => cluster.describeTopic(line.topic))
  if (line.json) {
    printJson(session, topic)
    return EXIT.ok
  }
  if (output.isTerminal) {
    const records = topic.partitions.reduce(
      (sum, { highWatermark, logStartOffset }) => sum + (highWatermark ?? 0) - (logStartOffset ?? 0),
      0,
    )
    void output.writeText(
      `${topic.name}: ${countOf(topic.partitions.length, 'partition')}, ${countOf(records, 'record')}, ` +
        `${topic.durability}, codecs ${topic.codecs.join(', ')}, ${keptText(topic)}\n\n`,
    )
  }
  printTable(session, PARTITION_COLUMNS, topic.partitions.map(partitionRow))
  return EXIT.ok
}

const PARTITION_COLUMNS: readonly Column[] = [
  { title: 'partition', align: 'right' },
  { title: 'leader', align: 'right' },
  { title: 'core', align: 'right' },
  { title: 'route', align: 'right' },
  { title: 'replicas' },
  { title: 'lag', align: 'right' },
  { title: 'first offset', align: 'right' },
  { title: 'next offset', align: 'right' },
  { title: 'bytes on disk', align: 'right' },
]

function partitionRow(description: PartitionDescription): string[] {
  const { partition, leader, shard, term, placement, replicas } = description
  const { logStartOffset, highWatermark, bytesOnDisk } = description
  const lags = replicas.map(({ lagBatches }) => lagBatches)
  const known = lags.filter((lag) => lag !== null)
  return [
    String(partition),
    leader === 0 ? 'none' : String(leader),
    leader === 0 ? '-' : String(shard),
    `${term}.${placement}`,
    replicas.map(({ nodeId, isLearner }) => `${nodeId}${isLearner ? ' (learner)' : ''}`).join(',') || '-',
    known.length < lags.length ? 'unknown' : String(Math.max(0, ...known)),
    ...[logStartOffset, highWatermark, bytesOnDisk].map((value) => (value === null ? '-' : String(value))),
  ]
}

/** What a topic keeps, in words. */
function keptText({ retentionMs, retentionBytes }: TopicRetention): string {
  const limits: string[] = []
  if (retentionMs !== null) limits.push(`for ${timeText(retentionMs)}`)
  if (retentionBytes !== null) limits.push(`up to ${sizeText(retentionBytes)} of each partition`)
  return limits.length === 0 ? 'kept for ever' : `kept ${limits.join(', ')}`
}

export async function deleteTopic(session: Session): Promise<ExitCode> {
  const { line, output } = session
  return withAdmin(session, async (cluster) => {
    // Asking about a topic that does not exist would be silly, so it is looked up first.
    const topic = await cluster.describeTopic(line.topic)
    if (!line.yes && !(await confirm(session, `Delete ${topic.name} with all its records?`))) {
      if (session.interrupted.aborted) return EXIT.interrupted
      throw new CommandError(EXIT.failure, 'nothing was deleted')
    }
    await cluster.deleteTopic(topic.name)
    if (line.json) printJson(session, { name: topic.name, deleted: true })
    else void output.writeText(`deleted ${topic.name}\n`)
    return EXIT.ok
  })
}

/** Asks on the terminal. @throws CommandError where there is nobody to ask. */
export async function confirm({ interrupted }: Session, question: string): Promise<boolean> {
  if (!process.stdin.isTTY || !process.stderr.isTTY) {
    throw new CommandError(EXIT.usage, 'deleting needs --yes where there is no terminal to ask on; nothing was deleted')
  }
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const closed = once(terminal, 'close').then(() => 'no')
    terminal.on('SIGINT', () => process.kill(process.pid, 'SIGINT'))
    const answer = await Promise.race([terminal.question(`${question} [y/N] `, { signal: interrupted }), closed])
    return /^y(es)?$/i.test(answer.trim())
  } catch (error) {
    if (interrupted.aborted) return false
    throw error
  } finally {
    terminal.close()
  }
}
