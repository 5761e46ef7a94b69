// Abort signals: turning one into a typed error.
import { type ErrorContext, MillraceError } from './errors.js'

export function abortError(signal: AbortSignal, context: ErrorContext = {}): MillraceError {
  return new MillraceError('ERR_MILLRACE_ABORTED', 'aborted by its signal', { ...context, cause: signal.reason })
}

/** Calls back once when the signal is aborted, at once if it is already; returns a function that stops waiting. */
export function onAbort(signal: AbortSignal, callback: () => void): () => void {
  if (signal.aborted) {
    callback()
    return () => {}
  }
  signal.addEventListener('abort', callback, { once: true })
  return () => signal.removeEventListener('abort', callback)
}

/** Settles like `promise`, or rejects with `error` once the signal is aborted. A rejection needs no handler. */
export function abortable<T>(promise: Promise<T>, signal: AbortSignal, error: () => MillraceError): Promise<T> {
  const raced = new Promise<T>((resolve, reject) => {
    const stop = onAbort(signal, () => reject(error()))
    promise.then(resolve, reject).finally(stop)
  })
  raced.catch(() => {})
  return raced
}
