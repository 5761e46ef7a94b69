// CRC-32 in JavaScript against that of zlib, from one log part to a large batch.
import { crc32 as zlibCrc32 } from 'node:zlib'
import { type ChecksumFunction, crc32 } from '@millrace/protocol'
import { type BenchOptions, measure } from './measure.js'

export const name = 'protocol-checksum'

const SIZES_BYTES = [36, 256, 1024, 16 * 1024, 256 * 1024]

export function run({ tiny }: BenchOptions): Promise<object> {
  const results = SIZES_BYTES.map((bytes) => {
    const input = new Uint8Array(bytes).map((_, i) => (i * 2654435761) >>> 13)
    let sum = 0
    const times = Math.max(1, Math.round((64 * 1024) / bytes))
    const gbPerSecond = (checksum: ChecksumFunction): number => {
      const { nsPerUnit } = measure(() => {
        for (let i = 0; i < times; i++) sum = checksum(input, 0)
        return times
      }, tiny)
      return Number((bytes / nsPerUnit).toFixed(2))
    }
    return {
      name: `crc32 of ${bytes} B`,
      javascriptGbPerSecond: gbPerSecond(crc32),
      zlibGbPerSecond: gbPerSecond(zlibCrc32),
      checksum: sum,
    }
  })
  return Promise.resolve({ results })
}
