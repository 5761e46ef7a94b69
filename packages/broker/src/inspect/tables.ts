// What was found, as text for people: tables of slots and logs, details where they were asked for, and what to do.
import { counted, countText, sizeText, type TableColumn, tableText, timeText } from './human.js'
import type { BatchRow, GroupRow, LogReport, Problem, SlotReport, VolumeReport } from './reports.js'

export const logName = ({ topic, topicId, partition, lane }: LogReport): string =>
  `${topic ?? `#${topicId}`}/${partition}${lane === 0 ? '' : `/${lane}`}`

const right = (title: string): TableColumn => ({ title, right: true })
const left = (title: string): TableColumn => ({ title })

export function inspectText(report: VolumeReport, withDetails: boolean): string {
  const sections = [volumeText(report)]
  if (!withDetails) sections.push(slotsText(report))
  sections.push(logsText(report.logs))
  for (const log of report.logs) if (withDetails) sections.push(logText(log))
  sections.push(rangesText(report.logs), problemsText(report.problems))
  return sections.filter((section) => section !== '').join('\n')
}

export function verifyText(report: VolumeReport): string {
  const { logs } = report
  const sections = [rangesText(logs), problemsText(report.problems)]
  const torn = logs.filter(({ state }) => state === 'torn')
  if (torn.length > 0) {
    const rows = torn.map((log) => [
      logName(log),
      countText(log.nextOffset),
      countText(log.end.position),
      log.end.reason,
    ])
    const table = tableText([left('torn log'), right('next offset'), right('position'), left('why')], rows)
    sections.push(`${table}A crash tore what was never promised: the next start cuts it, and nothing is lost.\n`)
  }
  const sum = (of: (log: LogReport) => number): number => logs.reduce((total, log) => total + of(log), 0)
  const groups = sum(({ groups: { batches, checkpoints, indexes } }) => batches + checkpoints + indexes)
  const segments = counted(
    sum((log) => log.segments.length),
    'segment',
  )
  const batches = counted(
    sum((log) => log.batches),
    'batch',
    'batches',
  )
  const records = counted(
    sum((log) => log.records),
    'record',
  )
  const size = sizeText(sum(({ groupBytes }) => groupBytes))
  const what = `${counted(logs.length, 'log')}, ${segments}, ${counted(groups, 'group')}, ${batches}, ${records}, ${size}`
  const damaged = logs.filter(({ state }) => state === 'damaged').length
  const others = report.problems.filter(({ severity }) => severity === 'damage').length
  const verdict =
    damaged + others === 0
      ? 'no damage'
      : `DAMAGED: ${counted(damaged, 'log')}, ${counted(others, 'other problem')}; keep a copy of the directory before anything else`
  sections.push(`${what}: ${verdict}\n`)
  return sections.filter((section) => section !== '').join('\n')
}

function volumeText({ directory, clusterId, nodeId, diskId, starts, closedInOrder }: VolumeReport): string {
  const state = closedInOrder ? 'closed in order' : 'not closed in order: the next start looks at it more closely'
  const begun = starts === null ? 'unknown' : countText(starts)
  return `${directory}: node ${nodeId} of cluster ${clusterId}, disk ${diskId}\nstarts ${begun}, ${state}\n`
}

function slotsText({ slots, logs }: VolumeReport): string {
  const names = new Map(logs.map((log) => [`${log.topicId}/${log.partition}/${log.lane}`, logName(log)]))
  const owner = ({ topicId, partition, lane }: SlotReport): string => {
    if (topicId === null) return '-'
    const key = `${topicId}/${partition}/${lane}`
    return names.get(key) ?? `#${key}`
  }
  const rows = slots.map((slot) => [
    slot.name,
    sizeText(slot.slotBytes ?? slot.fileBytes),
    slot.state,
    slot.generation === null ? '-' : String(slot.generation),
    slot.writtenThrough === null ? '-' : slot.writtenThrough ? 'yes' : 'no',
    owner(slot),
    slot.basePosition === null ? '-' : countText(slot.basePosition),
  ])
  const columns = [
    left('slot'),
    right('size'),
    left('state'),
    right('generation'),
    left('written through'),
    left('log'),
  ]
  return tableText([...columns, right('base position')], rows)
}

function logsText(logs: readonly LogReport[]): string {
  const rows = logs.map((log) => [
    logName(log),
    log.state,
    countText(log.segments.length),
    countText(log.groups.batches + log.groups.checkpoints + log.groups.indexes),
    countText(log.batches),
    countText(log.records),
    countText(log.logStart.offset),
    countText(log.nextOffset),
    sizeText(log.groupBytes),
    sizeText(log.segments.reduce((bytes, { slotBytes }) => bytes + slotBytes, 0)),
  ])
  const counts = ['segments', 'groups', 'batches', 'records', 'log start', 'next offset', 'written', 'on disk'].map(
    right,
  )
  return tableText([left('log'), left('state'), ...counts], rows)
}

function logText(log: LogReport): string {
  const { logStart, checkpoints, lastIndex, lastTerm, maxTimestamp, end } = log
  const head = [
    `log ${logName(log)}: topic id ${log.topicId}, partition ${log.partition}, lane ${log.lane}`,
    `  log start   offset ${countText(logStart.offset)}, index ${countText(logStart.index)}`,
    `  end         ${end.kind}, offset ${countText(log.nextOffset)}, index ${countText(lastIndex)}, term ${lastTerm}, position ${countText(end.position)}`,
    `  last record ${timeText(maxTimestamp)}`,
    `  checkpoints ${checkpoints.length === 0 ? 'none' : `${countText(checkpoints.length)}, the last at position ${countText(checkpoints.at(-1)!)}`}`,
  ].join('\n')
  const segments = log.segments.map((segment) => [
    segment.slot,
    sizeText(segment.slotBytes),
    String(segment.generation),
    countText(segment.basePosition),
    countText(segment.endPosition),
    countText(segment.baseIndex),
    countText(segment.baseOffset),
    countText(segment.groups),
  ])
  const counts = ['size', 'generation', 'from position', 'to position', 'first index', 'first offset', 'groups'].map(
    right,
  )
  const sections = [`${head}\n`, tableText([left('segment'), ...counts], segments)]
  if (log.groupRows !== undefined) sections.push(groupsText(log.groupRows))
  if (log.batchRows !== undefined) sections.push(batchesText(log.batchRows))
  if ((log.rowsLeftOut ?? 0) > 0) {
    sections.push(`${counted(log.rowsLeftOut!, 'row')} left out: go on with --offset, or raise --limit\n`)
  }
  return sections.filter((section) => section !== '').join('\n')
}

function groupsText(groups: readonly GroupRow[]): string {
  const rows = groups.map((group) => [
    countText(group.position),
    group.slot,
    group.kind,
    countText(group.length),
    countText(group.batches),
    countText(group.firstIndex),
    countText(group.firstOffset),
    countText(group.durableTo),
  ])
  const counts = ['length', 'batches', 'first index', 'first offset', 'durable to'].map(right)
  return tableText([right('position'), left('slot'), left('kind'), ...counts], rows)
}

function batchesText(batches: readonly BatchRow[]): string {
  const rows = batches.map((batch) => [
    countText(batch.index),
    countText(batch.baseOffset),
    countText(batch.records),
    String(batch.term),
    countText(batch.bytes),
    batch.control ? `${batch.codec}, control` : batch.codec,
    timeText(batch.appendTime),
    timeText(batch.lastTimestamp),
    `${batch.producer.slice(0, 8)}:${batch.epoch}:${batch.sequence}`,
    countText(batch.position),
  ])
  const counts = ['index', 'base offset', 'records', 'term', 'bytes'].map(right)
  const others = ['codec', 'appended', 'last timestamp', 'producer:epoch:sequence'].map(left)
  return tableText([...counts, ...others, right('in group')], rows)
}

/** What was cut off, what is lost, what cannot be decoded. */
function rangesText(logs: readonly LogReport[]): string {
  // The batch of a term has no record: where it is lost alone, no offset is.
  const to = (first: number, next: number | null): string => {
    if (next === null) return 'unknown'
    return next === first ? 'none' : countText(next - 1)
  }
  const rows: string[][] = []
  for (const log of logs) {
    for (const { position, firstOffset, nextOffset } of log.deadRanges) {
      rows.push([
        logName(log),
        'cut off',
        countText(position),
        countText(firstOffset),
        to(firstOffset, nextOffset),
        'superseded',
      ])
    }
    for (const { position, firstOffset, nextOffset, slot, reason } of log.damage) {
      const where = `${slot}: ${reason}`
      rows.push([
        logName(log),
        'DAMAGED',
        countText(position),
        countText(firstOffset),
        to(firstOffset, nextOffset),
        where,
      ])
    }
    for (const { baseOffset, index, reason } of log.undecodable) {
      rows.push([logName(log), 'UNREADABLE', '-', countText(baseOffset), '-', `batch ${index}: ${reason}`])
    }
  }
  const columns = [left('log'), left('range'), right('position'), right('from offset'), right('to offset'), left('why')]
  return tableText(columns, rows)
}

function problemsText(problems: readonly Problem[]): string {
  return problems
    .map(({ severity, where, problem, hint }) => {
      const mark = severity === 'damage' ? 'BAD ' : 'note'
      return `${mark}  ${where}: ${problem}\n      → ${hint}\n`
    })
    .join('')
}
