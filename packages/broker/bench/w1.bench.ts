// W1: produce, records of 100 bytes in batches of 1,000, one partition, buffered.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w1'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 1,
      durability: 'buffered',
      recordBytes: 100,
      recordsPerCall: 1000,
      callsInFlight: 32,
      limit: 'loopback',
    },
    options,
  )
