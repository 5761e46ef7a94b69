// Whatever the payment service does, every order is invoiced once or a dead letter that says why.
import { expect, test } from 'vitest'
import { run } from '../dist/main.js'

test('every order is invoiced in order or set aside with its reason', async () => {
  const { orders, invoiced, deadLetters, outOfOrder } = await run(400)
  expect({ orders, invoiced, outOfOrder }).toEqual({ orders: 400, invoiced: 397, outOfOrder: 0 })
  expect(deadLetters).toHaveLength(4)
  expect(deadLetters.filter((reason) => reason.includes('declined'))).toHaveLength(3)
})
