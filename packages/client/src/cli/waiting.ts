// Waiting for something that takes its time, and telling how far it is.
import { setTimeout as sleep } from 'node:timers/promises'
import { CommandError, EXIT } from './exit-codes.js'
import type { Session } from './session.js'

const LOOK_MS = 500

/**
 * @param left what is still to be done, in words; null when it is done. Asked once more then: brokers hear of what was decided
 * one after the other.
 * @throws CommandError after Ctrl-C.
 */
export async function untilDone({ messages, interrupted }: Session, left: () => Promise<string | null>): Promise<void> {
  let told: string | null = ''
  for (;;) {
    const words = await left()
    if (words === null && told === null) return
    if (words !== null && words !== told) messages.line(words)
    told = words
    if (interrupted.aborted) throw new CommandError(EXIT.interrupted, 'not waited for any longer; it goes on')
    await sleep(LOOK_MS)
  }
}
