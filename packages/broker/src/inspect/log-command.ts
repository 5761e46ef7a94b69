// `millrace-broker log inspect` and `log verify`: read a stopped broker's directory, say what is in it, change nothing.

import { METADATA_KEY } from '../cluster/metadata-log.js'
import type { Clock, DiskError, Memory, Volume } from '../environment.js'
import { IDENTITY_FILE } from '../identity.js'
import { nearestOf } from '../nearest.js'
import { keyText, sameKey } from '../storage/group-envelope.js'
import { sizeText } from './human.js'
import { type InspectedLog, type InspectedVolume, inspectVolume } from './inspected-volume.js'
import { LOG_HELP, type LogArguments, readLogArguments } from './log-arguments.js'
import { type DetailWish, type InspectionWorld, LogInspection } from './log-inspection.js'
import type { Unpack } from './record-check.js'
import { InspectError, type LogReport, type Problem, type VolumeReport } from './reports.js'
import { inspectText, verifyText } from './tables.js'
import { TopicNames } from './topic-names.js'

/** What the command needs of the world; `main.ts` gives the real one. */
export interface LogCommandWorld {
  readonly memory: Memory
  readonly clock: Clock
  readonly unpack: Unpack
  /** For looking only. @throws DiskError LOCKED while a broker uses the directory. */
  openVolume(directory: string): Promise<Volume>
  /** Who uses the directory now; null for nobody. */
  holderOf(directory: string): Promise<DiskError | null>
  print(text: string): void
  /** Shows how far it has come, in place of what was shown before; null where nobody would see it. */
  readonly showProgress: ((text: string) => void) | null
}

const CLEAN = 0
const DAMAGED = 1
const PROGRESS_MS = 500

/** @returns the exit code: 0 clean, 1 damage (`verify` only). @throws InspectError, DiskError: nothing can be said. */
export async function runLogCommand(args: readonly string[], world: LogCommandWorld): Promise<number> {
  const wanted = readLogArguments(args)
  if (wanted === null) {
    world.print(LOG_HELP)
    return CLEAN
  }
  const report = await reportOf(wanted, world)
  const isDamaged =
    report.logs.some(({ state }) => state === 'damaged') ||
    report.problems.some(({ severity }) => severity === 'damage')
  const { command, json } = wanted
  if (json) world.print(`${JSON.stringify({ command, damaged: isDamaged, ...report })}\n`)
  else if (command === 'verify') world.print(verifyText(report))
  else world.print(inspectText(report, wanted.groups || wanted.batches || wanted.log !== null))
  return command === 'verify' && isDamaged ? DAMAGED : CLEAN
}

async function reportOf(wanted: LogArguments, world: LogCommandWorld): Promise<VolumeReport> {
  const { directory } = wanted
  const volume = await world.openVolume(directory)
  try {
    const before = await volume.readSmall(IDENTITY_FILE)
    const inspected = await inspectVolume(volume, world.memory)
    const report = await new VolumeInspector(wanted, world, inspected).run()
    await assertUndisturbed(volume, world, before)
    const { identity, starts, closedInOrder, slots } = inspected
    return { directory, ...identity, starts, closedInOrder, slots, ...report }
  } finally {
    await volume.close()
  }
}

/**
 * Nothing was locked, so somebody may have started a broker meanwhile: then what was read is of no use. Every start is
 * counted in the identity file, so one that has ended again shows too.
 */
async function assertUndisturbed(volume: Volume, world: LogCommandWorld, before: Uint8Array | null): Promise<void> {
  const holder = await world.holderOf(volume.directory)
  if (holder !== null) throw new InspectError(`a broker was started meanwhile: ${holder.message}`, { cause: holder })
  const after = await volume.readSmall(IDENTITY_FILE)
  if (String(after) !== String(before)) throw new InspectError('a broker ran on the directory meanwhile; try again')
}

class VolumeInspector {
  private readonly names = new TopicNames()
  private readonly inspection: InspectionWorld
  private readonly totalBytes: number
  private readBytes = 0
  private shownAtMs = 0

  constructor(
    private readonly wanted: LogArguments,
    private readonly world: LogCommandWorld,
    private readonly volume: InspectedVolume,
  ) {
    const { memory, clock, unpack } = world
    this.inspection = { memory, clock, unpack, progressed: (bytes) => this.progressed(bytes) }
    this.totalBytes = volume.slots.reduce((sum, { state, fileBytes }) => sum + (state === 'owned' ? fileBytes : 0), 0)
  }

  async run(): Promise<{ readonly logs: readonly LogReport[]; readonly problems: readonly Problem[] }> {
    const { logs } = this.volume
    const metadata = logs.find(({ key }) => sameKey(key, METADATA_KEY))
    // Its log is read in any case: the names of all others stand in it.
    const found = metadata === undefined ? [] : [await this.inspect(metadata)]
    const others = logs.filter((log) => log !== metadata).filter((log) => this.isWanted(log))
    if (this.wanted.log !== null && !this.isWantedKey(METADATA_KEY)) {
      found.length = 0
      if (others.length === 0) throw this.noSuchLog(this.wanted.log)
    }
    others.sort((a, b) => a.key.topicId - b.key.topicId || a.key.partition - b.key.partition)
    for (const log of others) found.push(await this.inspect(log))
    this.world.showProgress?.('')
    return { logs: found, problems: [...this.volume.problems, ...this.namesMissing()] }
  }

  private async inspect(log: InspectedLog): Promise<LogReport> {
    const isMetadata = sameKey(log.key, METADATA_KEY)
    const onGroup = isMetadata ? this.names.read.bind(this.names) : undefined
    const report = await new LogInspection(this.inspection, log, this.detailsFor(log), onGroup).run()
    return { ...report, topic: this.names.nameOf(log.key.topicId) }
  }

  private detailsFor(log: InspectedLog): DetailWish | null {
    const { groups, batches, offset: fromOffset, limit: maxRows } = this.wanted
    return (groups || batches) && this.isWanted(log) ? { groups, batches, fromOffset, maxRows } : null
  }

  private isWanted({ key }: InspectedLog): boolean {
    return this.wanted.log === null || this.isWantedKey(key)
  }

  private isWantedKey({ topicId, partition }: { readonly topicId: number; readonly partition: number }): boolean {
    const { log } = this.wanted
    if (log === null) return true
    const named = this.names.idOf(log.topic) ?? (/^\d+$/.test(log.topic) ? Number(log.topic) : null)
    return named === topicId && log.partition === partition
  }

  private noSuchLog({ topic, partition }: { readonly topic: string; readonly partition: number }): InspectError {
    const { logs } = this.volume
    const known = logs.map(({ key }) => `${this.names.nameOf(key.topicId) ?? key.topicId}/${key.partition}`)
    const nearest = known.length === 0 ? '' : `; did you mean ${nearestOf(`${topic}/${partition}`, known)}?`
    return new InspectError(`there is no log ${topic}/${partition} in the directory${nearest}`)
  }

  private namesMissing(): readonly Problem[] {
    const nameless = this.volume.logs.filter(({ key }) => this.names.nameOf(key.topicId) === null)
    const problems: Problem[] = []
    if (this.names.isIncomplete) {
      const problem = 'a command of it cannot be read: it was written by a newer version'
      problems.push({ severity: 'note', where: 'metadata', problem, hint: 'use the newer version of this command' })
    }
    if (nameless.length > 0) {
      const problem = `the metadata knows no topic for ${nameless.length} logs, such as ${keyText(nameless[0]!.key)}`
      const hint = 'they are kept and not served; where the metadata is damaged, repair that first'
      problems.push({ severity: 'note', where: 'metadata', problem, hint })
    }
    return problems
  }

  private progressed(bytes: number): void {
    this.readBytes += bytes
    const { showProgress, clock } = this.world
    const now = clock.monotonicMs()
    if (showProgress === null || now - this.shownAtMs < PROGRESS_MS) return
    this.shownAtMs = now
    showProgress(`read ${sizeText(this.readBytes)} of at most ${sizeText(this.totalBytes)}`)
  }
}
