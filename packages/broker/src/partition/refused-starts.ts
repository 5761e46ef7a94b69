// Producers whose first batch was refused here a moment ago, and whose second one is therefore no stranger's.
import type { BatchHeader } from '@millrace/protocol'
import { Fifo } from '../fifo.js'
import { MAX_REFUSED_STARTS } from '../limits.js'
import { sameProducer } from './producer-session.js'

type Start = Pick<BatchHeader, 'producer' | 'epoch'>

/**
 * A producer sends several batches before the first is answered. When the first is refused for a passing reason, the
 * next ones would look like those of a producer that the partition has forgotten, which ends the session on the
 * client. They are only early: OUT_OF_ORDER_SEQUENCE lets the client send again in order. Kept in memory, bounded;
 * forgetting costs a session, never a record.
 */
export class RefusedStarts {
  #starts: Fifo<Start> | null = null

  add(header: Start): void {
    this.#starts ??= new Fifo()
    this.#starts.push({ producer: header.producer, epoch: header.epoch })
    if (this.#starts.length > MAX_REFUSED_STARTS) this.#starts.shift()
  }

  has(header: Start): boolean {
    return (
      this.#starts?.some((start) => start.epoch === header.epoch && sameProducer(start.producer, header.producer)) ??
      false
    )
  }
}
