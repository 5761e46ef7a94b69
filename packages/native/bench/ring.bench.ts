// What a ring costs where no device is involved: crossing into the addon, entering the kernel, and a NOP there and back.
import { binding, probeKernel, Ring } from '@millrace/native'
import { type BenchOptions, measure, rounded } from './measure.js'

export const name = 'native-ring'

const PER_ENTER = [1, 16, 64, 256]

export function run({ tiny }: BenchOptions): Promise<object> {
  const { ring: finding } = probeKernel()
  if (!finding.available) return Promise.resolve({ refused: finding.reason })
  const ring = new Ring({ entries: 256, completions: 1024 })
  const native = binding()
  const empty = new Uint8Array(0)
  let completed = 0
  const sink = {
    complete(slot: number) {
      completed += slot
    },
  }
  const loop = (calls: number, call: () => unknown) => () => {
    for (let i = 0; i < calls; i++) call()
    return calls
  }
  const crossing = measure(
    loop(100, () => native.checksumBytes(empty, 0)),
    tiny,
  )
  const enter = measure(
    loop(100, () => ring.submit()),
    tiny,
  )
  const results = PER_ENTER.map((perEnter) => {
    const { nsPerUnit, bestNsPerUnit } = measure(() => {
      for (let i = 0; i < perEnter; i++) ring.nop(1, i)
      ring.submit(perEnter)
      return ring.reap(sink)
    }, tiny)
    return { name: `NOP, ${perEnter} an enter`, nsPerOperation: rounded(nsPerUnit), bestNs: rounded(bestNsPerUnit) }
  })
  ring.close(0)
  return Promise.resolve({
    results: [
      {
        name: 'crossing into the addon',
        nsPerOperation: rounded(crossing.nsPerUnit),
        bestNs: rounded(crossing.bestNsPerUnit),
      },
      {
        name: 'enter with nothing to do',
        nsPerOperation: rounded(enter.nsPerUnit),
        bestNs: rounded(enter.bestNsPerUnit),
      },
      ...results,
    ],
    checksum: completed,
  })
}
