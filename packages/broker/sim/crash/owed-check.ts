// Whether a recovered log holds what some first part of its history made of it: no less than was promised, no more than
// was given.
import type { LogEnd } from '#src/storage/log-store.js'
import { CrashFailure } from './crash-failure.js'
import { type AppendedBatch, LogContent, type LogOperation, type Owed } from './log-history.js'

/** What a recovered log turned out to hold. */
export interface RecoveredContent {
  /** What it was told to be committed when it was looked at; later on more may be. */
  readonly committed: number
  readonly startOffset: number
  /** Those it serves, in order. Control batches may be missing: no offset leads to them. */
  readonly batches: readonly AppendedBatch[]
  /** Behind its last batch, served or not. */
  readonly end: LogEnd
  readonly damaged: boolean
}

/** By topic id; a log that is not there is missing. */
export type RecoveredLogs = ReadonlyMap<number, RecoveredContent>

/**
 * @param rotten something durable was spoilt besides: less may be there when the log says that it is damaged, or when
 * nothing on the disk can know better.
 * @returns what each log holds, the batches below its start included. @throws CrashFailure.
 */
export function checkOwed(owed: readonly Owed[], logs: RecoveredLogs, rotten = false): Map<number, LogContent> {
  const contents = new Map<number, LogContent>()
  for (const one of owed) {
    const name = `log ${one.topicId}`
    const recovered = logs.get(one.topicId)
    if (recovered !== undefined && one.dropped) throw new CrashFailure('phantom', `${name} was dropped, and is there`)
    if (recovered !== undefined) contents.set(one.topicId, checkContent(name, one, recovered, rotten))
    else if (one.kept > 0 && !one.dropAsked) {
      throw new CrashFailure(rotten ? 'damage hidden' : 'lost', `${name} is gone`)
    }
  }
  return contents
}

function checkContent(name: string, owed: Owed, recovered: RecoveredContent, rotten: boolean): LogContent {
  const { history, kept, given } = owed
  const content = LogContent.after(history, kept)
  for (let count = kept; ; count++) {
    if (isHeldBy(content, recovered)) {
      const { offset } = content.startWhen(recovered.committed)
      const goesBack = recovered.startOffset < owed.startOffset && recovered.committed >= owed.committed
      if (goesBack && !rotten) {
        throw new CrashFailure(
          'wrong state',
          `${name} began at offset ${owed.startOffset}, now at ${recovered.startOffset}`,
        )
      }
      if (recovered.damaged || recovered.startOffset === offset) return content
      throw new CrashFailure('wrong state', `${name} begins at offset ${recovered.startOffset}, not at ${offset}`)
    }
    if (count === given) break
    content.apply(history[count]!)
  }
  const there = earlier(owed, recovered)
  const what = `${name} ends at batch ${recovered.end.index}`
  if (there === null) {
    // A damaged log may also serve less than a whole number of operations left.
    if (rotten && recovered.damaged) return LogContent.after(history, 0)
    throw new CrashFailure('phantom', `${what}, and never held all it serves together`)
  }
  // A log that has begun anew says so in a header as well: what it was before never passes for sound.
  const wasInstalled = history.slice(there, kept).some(({ kind }) => kind === 'install')
  if (rotten && (recovered.damaged || (!wasInstalled && !isProvenFlushed(owed, there))))
    return LogContent.after(history, there)
  throw new CrashFailure(rotten ? 'damage hidden' : 'lost', `${what}: ${there} operations of ${kept} promised`)
}

/** How much of the history it is when that is less than was promised; null when it is no part at all. */
function earlier({ history, kept }: Owed, recovered: RecoveredContent): number | null {
  const content = new LogContent()
  let found: number | null = null
  for (let count = 0; count < kept; count++) {
    if (isHeldBy(content, recovered)) found = count
    content.apply(history[count]!)
  }
  return found
}

/** Whether something that was given once an operation was flushed is flushed too: its group says so. */
function isProvenFlushed({ kept, givenWhenFlushed }: Owed, operation: number): boolean {
  return kept > (givenWhenFlushed[operation] ?? Number.POSITIVE_INFINITY)
}

/** Every batch with records at or above the start is served, and nothing that is not there. */
function isHeldBy(content: LogContent, { startOffset, batches, end, damaged }: RecoveredContent): boolean {
  // Where it ends tells an empty log that began anew from every other.
  if (content.lastIndex !== end.index || content.nextOffset !== end.nextOffset) return false
  let at = 0
  for (const batch of content.batches) {
    const served = batches[at]
    if (served?.index === batch.index) {
      if (!isSame(served, batch)) return false
      at++
    } else if (!damaged && !batch.header.control && batch.endOffset > startOffset) return false
  }
  return at === batches.length
}

/** A batch that was cut off may be sent again, and be the same to the last bit. */
function isSame(a: AppendedBatch, b: AppendedBatch): boolean {
  if (a === b) return true
  const samePlace = a.index === b.index && a.term === b.term && a.baseOffset === b.baseOffset
  return samePlace && a.appendTime === b.appendTime && Buffer.compare(a.bytes, b.bytes) === 0
}

/** Batches by the index they were given, of each history once: thousands of states ask for the same ones. */
const known = new WeakMap<readonly LogOperation[], AppendedBatch[][]>()

export function batchesByIndex(history: readonly LogOperation[]): readonly (readonly AppendedBatch[])[] {
  let batches = known.get(history)
  if (batches === undefined) {
    batches = []
    for (const operation of history) {
      if (operation.kind !== 'append') continue
      const { batch } = operation
      batches[batch.index] ??= []
      batches[batch.index]!.push(batch)
    }
    known.set(history, batches)
  }
  return batches
}
