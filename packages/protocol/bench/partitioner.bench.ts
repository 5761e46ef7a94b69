// What it costs to find the partition of a key.
import { partitionOfKey } from '@millrace/protocol'
import { type BenchOptions, measure } from './measure.js'

export const name = 'protocol-partitioner'

const KEY_BYTES = [4, 16, 36, 128]
const KEYS = 1024

export function run({ tiny }: BenchOptions): Promise<object> {
  const results = KEY_BYTES.map((bytes) => {
    const keys = Array.from({ length: KEYS }, (_, n) => new Uint8Array(bytes).map((_, i) => n * 7 + i * 31))
    let sum = 0
    const { nsPerUnit } = measure(() => {
      sum = 0
      for (const key of keys) sum += partitionOfKey(key, 48)
      return KEYS
    }, tiny)
    return { name: `murmur2 of ${bytes} B`, nsPerKey: Number(nsPerUnit.toFixed(2)), checksum: sum }
  })
  return Promise.resolve({ results })
}
