// W4 on one partition: durable produce, records of 1 KiB, 64 a call, 8 calls in flight, flushed.
import type { RunOptions } from './support/bench-options.js'
import { produceBench } from './support/produce-bench.js'

export const name = 'w4-one'

export const run = (options: RunOptions): Promise<object> =>
  produceBench(
    {
      name,
      partitions: 1,
      durability: 'flushed',
      recordBytes: 1024,
      recordsPerCall: 64,
      callsInFlight: 8,
      limit: 'flushedWrites',
    },
    options,
  )
