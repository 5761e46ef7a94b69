// W4: durable produce, records of 1 KiB, 64 a call, 8 calls in flight, 16 partitions, flushed.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w4'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 16,
      durability: 'flushed',
      recordBytes: 1024,
      recordsPerCall: 64,
      callsInFlight: 8,
      oneKeyPerCall: true,
      limit: 'flushedWrites',
    },
    options,
  )
