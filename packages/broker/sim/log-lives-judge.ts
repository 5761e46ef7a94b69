// What must be true of a log after a crash, by the model of what was appended, promised and voted. Pure.
import { crc32 } from 'node:zlib'
import { LOG_PART_BYTES, logPartIsValid, readLogPart } from '@millrace/protocol'
import type { HardState } from '#src/raft/raft-types.js'
import type { LogKey } from '#src/storage/log-store.js'
import type { HashState, LogModel } from './log-lives-model.js'
import { CheckFailed } from './log-lives-result.js'

/** Everything promised is there, nothing else but what was appended, and the state is that of the batches. @throws CheckFailed */
export function judgeEnd(
  model: LogModel,
  state: HashState,
  { index, nextOffset }: { readonly index: number; readonly nextOffset: number },
): void {
  const where = `log ${nameOf(model.key)}`
  const { written: promised, lastIndex } = model
  if (index < promised) {
    throw new CheckFailed('lost', `${where} ends at batch ${index}, and ${promised} was promised (of ${lastIndex})`)
  }
  if (index > lastIndex) {
    throw new CheckFailed('phantom', `${where} ends at batch ${index}, and the last one appended is ${lastIndex}`)
  }
  model.cutTo(index)
  if (nextOffset !== model.nextOffset) {
    throw new CheckFailed('phantom', `${where} goes on at ${nextOffset}, not ${model.nextOffset}`)
  }
  if (state.index !== index || state.hash !== model.finalHash) {
    const message = `${where}: the state after recovery is not that of its batches (at ${state.index} of ${index})`
    throw new CheckFailed('state', message)
  }
}

/** What is found is the last vote that was saved, or one that was on its way. @throws CheckFailed */
export function judgeVotes(model: LogModel, found: HardState | 'lost' | null): void {
  const { votes, votesSaved } = model
  const isFound = (vote: HardState): boolean =>
    found !== null && found !== 'lost' && found.term === vote.term && found.votedFor === vote.votedFor
  const count = votes.findIndex(isFound) + 1
  if (count < votesSaved || (found !== null && count === 0)) {
    const what = JSON.stringify(found)
    throw new CheckFailed('vote', `log ${nameOf(model.key)} finds ${what}, number ${votesSaved} was saved`)
  }
  votes.length = model.votesSaved = count
}

/** @returns the number of the batch behind those in `bytes`, the first of which has the number `first`. @throws CheckFailed */
export function compareBatches(model: LogModel, bytes: Uint8Array, first: number): number {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength)
  let next = first
  for (let at = 0; at < bytes.byteLength; next++) {
    const batch = model.batches[next]
    const part = readLogPart(view, at)
    const client = bytes.subarray(at + LOG_PART_BYTES, at + LOG_PART_BYTES + part.clientLength)
    const same =
      batch !== undefined &&
      logPartIsValid(bytes, view, at, crc32) &&
      part.index === batch.index &&
      part.baseOffset === batch.baseOffset &&
      part.term === batch.term &&
      Buffer.compare(client, batch.bytes) === 0
    if (!same) throw new CheckFailed('phantom', `log ${nameOf(model.key)}: batch ${next + 1} is not what was appended`)
    at += LOG_PART_BYTES + part.clientLength
  }
  return next
}

export function nameOf({ topicId, partition }: LogKey): string {
  return `${topicId}/${partition}`
}
