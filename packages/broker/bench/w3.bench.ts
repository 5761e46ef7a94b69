// W3: produce, records of 64 KiB, 16 a call, one partition, buffered.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w3'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 1,
      durability: 'buffered',
      recordBytes: 65536,
      recordsPerCall: 16,
      callsInFlight: 6,
      limit: 'loopback',
    },
    options,
  )
