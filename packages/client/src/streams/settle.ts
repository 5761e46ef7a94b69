// settle: marks the place in a synchronous pipeline behind which a record is finished.
import { type MonoTypeOperatorFunction, Observable } from 'rxjs'
import { claimCurrent, subscribeToSettle } from '../settlement.js'
import { Detachable, notInDelivery } from './worker.js'

/**
 * Finishes each record when everything behind this operator has returned. Like processEach() it must see records while
 * they are delivered; behind an asynchronous operator the subscription fails with ERR_MILLRACE_NOT_IN_DELIVERY.
 */
export function settle<T>(): MonoTypeOperatorFunction<T> {
  return (source) =>
    new Observable((subscriber) => {
      const detachable = new Detachable()
      subscriber.add(() => detachable.detach())
      const subscription = subscribeToSettle(() =>
        source.subscribe({
          next: (value) => {
            const claim = claimCurrent()
            if (claim === null) return subscriber.error(notInDelivery('settle()'))
            claim.begin()
            subscriber.next(value)
            claim.settle()
          },
          error: (error) => subscriber.error(error),
          complete: () => subscriber.complete(),
        }),
      )
      detachable.hold(subscription)
    })
}
