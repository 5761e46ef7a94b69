// CRC-32 of the addon, alone and while copying, against zlib and a plain copy, from one header to a large batch.
import { crc32 as zlibCrc32 } from 'node:zlib'
import { Arena, binding, loadBinding } from '@millrace/native'
import { type BenchOptions, measure, rounded } from './measure.js'

export const name = 'native-checksum'

const SIZES_BYTES = [64, 256, 4096, 64 * 1024, 256 * 1024]

export function run({ tiny }: BenchOptions): Promise<object> {
  const loaded = loadBinding()
  if (!loaded.loaded) return Promise.resolve({ refused: loaded.reason })
  const native = binding()
  const source = new Arena(1024 * 1024, null)
  const target = new Arena(1024 * 1024, null)
  const bytes = new Uint8Array(source.buffer)
  for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 13
  const into = new Uint8Array(target.buffer)
  let sum = 0
  const results = SIZES_BYTES.map((size) => {
    const part = bytes.subarray(0, size)
    const times = Math.max(1, Math.round((256 * 1024) / size))
    const gbPerSecond = (once: () => number): number => {
      const { bestNsPerUnit } = measure(() => {
        for (let i = 0; i < times; i++) sum ^= once()
        return times
      }, tiny)
      return rounded(size / bestNsPerUnit)
    }
    return {
      name: `${size} B`,
      checksumGbPerSecond: gbPerSecond(() => native.checksum(source.handle, 0, size, 0)),
      copyWithChecksumGbPerSecond: gbPerSecond(() =>
        native.copyWithChecksum(target.handle, 0, source.handle, 0, size, 0),
      ),
      zlibGbPerSecond: gbPerSecond(() => zlibCrc32(part)),
      copyGbPerSecond: gbPerSecond(() => {
        into.set(part)
        return 0
      }),
    }
  })
  source.close()
  target.close()
  return Promise.resolve({ results, method: native.kernelFeatures().checksum, checksum: sum >>> 0 })
}
