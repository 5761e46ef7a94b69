// W5: durable produce, one record of 1 KiB after the other, flushed.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w5'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 1,
      durability: 'flushed',
      recordBytes: 1024,
      recordsPerCall: 1,
      callsInFlight: 1,
      limit: 'flushedWrites',
    },
    options,
  )
