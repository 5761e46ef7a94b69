// Orders on their way: charged by a service that fails now and then, invoiced, and set aside when nothing helps.
import { json, type Mill, processByKey, retryOrDeadLetter, topic, utf8 } from '@millrace/client'
import type { Observable } from 'rxjs'

export interface Order {
  readonly id: number
  readonly cents: number
}

export interface Invoice {
  readonly order: number
  readonly cents: number
}

export const Orders = topic('orders', { key: utf8, value: json<Order>() })
export const Invoices = topic('invoices', { key: utf8, value: json<Invoice>() })
export const DEAD_LETTERS = 'orders.dead'
export const GROUP = 'billing'

/** Charges a customer for an order, or throws. */
export type Charge = (customer: string, order: Order) => Promise<void>

interface Incoming {
  readonly key: string | null
  readonly value: Order | null
}

/**
 * One worker of the pipeline; start as many as you like, they share the partitions. Emits the id of each order that was
 * charged. An order counts as done when its invoice is acknowledged, or when it is in the dead-letter topic.
 */
export function work(mill: Mill, charge: Charge): Observable<number> {
  const invoices = mill.producer(Invoices)
  const chargeAndInvoice = async ({ key, value }: Incoming): Promise<number> => {
    if (key === null || value === null) throw new Error('an order needs a customer and something to charge')
    await charge(key, value)
    await invoices.send(key, { order: value.id, cents: value.cents })
    return value.id
  }
  const retried = retryOrDeadLetter(chargeAndInvoice, {
    attempts: 4,
    backoff: { initialMs: 5, maxMs: 50 },
    topic: DEAD_LETTERS,
  })
  return mill
    .consumer({ group: GROUP, onDecodeError: 'deadLetter', deadLetterTopic: DEAD_LETTERS })
    .subscribe(Orders)
    .pipe(
      // Orders of one customer one after the other, those of 32 customers at once.
      processByKey(retried, { concurrency: 32 }),
    )
}
