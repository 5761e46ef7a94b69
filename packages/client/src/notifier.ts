// A list of listeners: how the plain classes of the client tell others what happened.

export class Notifier<T> {
  readonly #listeners = new Set<(value: T) => void>()

  /** @returns a function that removes the listener. */
  listen(listener: (value: T) => void): () => void {
    this.#listeners.add(listener)
    return () => {
      this.#listeners.delete(listener)
    }
  }

  /** Listeners added while this runs are not called for this value. */
  notify(value: T): void {
    for (const listener of [...this.#listeners]) listener(value)
  }
}
