// W2: produce, records of 1 KiB by key over 16 partitions, buffered.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w2'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 16,
      durability: 'buffered',
      recordBytes: 1024,
      recordsPerCall: 256,
      callsInFlight: 64,
      limit: 'loopback',
    },
    options,
  )
