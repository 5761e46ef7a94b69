// Turns a notifier of the core into an Observable.
import { Observable, type Observer, ReplaySubject, Subject } from 'rxjs'
import type { Notifier } from '../notifier.js'

// For files outside this folder, which do not import RxJS.
export type { Observable, Observer } from 'rxjs'

export interface ObservedNotifier<T> {
  readonly stream: Observable<T>
  /** Completes the stream. */
  end(): void
}

/** @param replay how many of the latest values a late subscriber gets. */
export function observe<T>(notifier: Notifier<T>, replay = 0): ObservedNotifier<T> {
  const subject = replay === 0 ? new Subject<T>() : new ReplaySubject<T>(replay)
  const stop = notifier.listen((value) => subject.next(value))
  return {
    stream: subject.asObservable(),
    end: () => {
      stop()
      subject.complete()
    },
  }
}

/** A cold stream: `start` runs for each subscriber and returns what stops it. */
export function observable<T>(start: (observer: Observer<T>) => () => void): Observable<T> {
  return new Observable((subscriber) => start(subscriber))
}
