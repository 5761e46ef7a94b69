// Soak: a steady load with retention, and whether the broker's memory stays flat. As a bench it takes a minute; for
// longer there is `npm run soak -- --minutes N`.
import { benchOptions, type RunOptions } from './support/bench-options.js'
import { soak } from './support/soak.js'

export const name = 'soak'

export async function run(options: RunOptions): Promise<object> {
  const { seconds, prefer } = benchOptions(options, 60)
  // The moment of a tiny run begins with nothing: what it needs to warm up would pass for growth.
  const minutes = (options.tiny ? 2 : seconds) / 60
  const result = await soak({ minutes, prefer, bytesPerSecond: 8e6, memoryMb: 256, onSample: () => {} })
  if (!result.ok && !options.tiny) throw new Error(result.failure ?? 'memory is not flat')
  return result
}
