// The queue against a plain array.
import { SeededRandom } from '@millrace/protocol'
import { expect, it } from 'vitest'
import { Fifo } from '#src/fifo.js'

/** `expect` costs more than what is tested here. */
function same(found: unknown, wanted: unknown): void {
  if (found !== wanted) expect(found).toBe(wanted)
}

it('behaves like an array, over any sequence of calls', () => {
  const random = new SeededRandom(5)
  const queue = new Fifo<number>()
  let model: number[] = []
  for (let step = 0; step < 20_000; step++) {
    if (random.below(10) < 6) {
      queue.push(step)
      model.push(step)
    } else {
      same(queue.shift(), model.shift())
    }
    if (random.oneIn(3_000)) {
      expect(queue.drain()).toEqual(model)
      model = []
    }
    if (random.oneIn(100))
      same(
        queue.some((item) => item === step),
        model.includes(step),
      )
    same(queue.length, model.length)
    same(queue.peek(), model[0])
  }
})
