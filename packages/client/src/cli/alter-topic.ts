// `millrace topic alter`: more partitions, other replicas, or other limits on what is kept.
import type { AlterTopicOptions } from '../admin.js'
import { withAdmin } from './administration.js'
import { readBytes, readDuration } from './amounts.js'
import { readInteger } from './command-line.js'
import { EXIT, type ExitCode, UsageError } from './exit-codes.js'
import { countOf, printJson } from './print.js'
import type { Session } from './session.js'

export async function alterTopic(session: Session): Promise<ExitCode> {
  const { line, output } = session
  const partitions = readInteger(line, 'partitions', 1)
  const replicas = readInteger(line, 'replicas', 1)
  const options: AlterTopicOptions = {
    ...(partitions !== undefined && { partitions }),
    ...(replicas !== undefined && { replicas }),
    ...(line.switches.has('break-key-order') && { breakKeyOrder: true }),
    ...retention(session, 'retention', 'retentionMs', readDuration),
    ...retention(session, 'retention-bytes', 'retentionBytes', readBytes),
  }
  if (Object.keys(options).length === 0)
    throw new UsageError('topic alter changes nothing without options', line.name ?? '')
  const altered = await withAdmin(session, (cluster) => cluster.alterTopic(line.topic, options))
  if (line.json) printJson(session, altered)
  else void output.writeText(`${altered.name} has ${countOf(altered.partitions, 'partition')}\n`)
  return EXIT.ok
}

/** `none` takes a limit away. */
function retention<K extends 'retentionMs' | 'retentionBytes'>(
  { line }: Session,
  option: string,
  key: K,
  read: (line: Session['line'], option: string) => number | null,
): Partial<Record<K, number | null>> {
  const given = line.values[option]
  if (given === undefined) return {}
  const value: Partial<Record<K, number | null>> = {}
  value[key] = given === 'none' ? null : read(line, option)
  return value
}
