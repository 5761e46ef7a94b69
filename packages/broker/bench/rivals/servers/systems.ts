// A system as the contest sees it: where its servers listen for each kind of acknowledgement, and how they end.
import type { Addresses } from '../contestant.js'

export interface Systems {
  readonly addresses: Addresses
  stop(): Promise<void>
}

/** Starts one server for each kind of acknowledgement, and ends both. */
export async function pair(
  start: (durability: 'buffered' | 'flushed') => Promise<{ readonly address: string; stop(): Promise<void> }>,
): Promise<Systems> {
  const buffered = await start('buffered')
  const flushed = await start('flushed')
  return {
    addresses: { buffered: buffered.address, flushed: flushed.address },
    async stop() {
      await Promise.all([buffered.stop(), flushed.stop()])
    },
  }
}
