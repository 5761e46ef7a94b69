// Reads that wait until it is certain that nothing committed before them is missing here.
interface Waiting {
  readonly resolve: () => void
  readonly reject: (error: Error) => void
  readonly refusal: () => Error
}

export class ReadBarriers {
  readonly #waiting = new Map<number, Waiting>()

  wait(read: number, refusal: () => Error): Promise<void> {
    return new Promise((resolve, reject) => this.#waiting.set(read, { resolve, reject, refusal }))
  }

  ready(read: number): void {
    this.#waiting.get(read)?.resolve()
    this.#waiting.delete(read)
  }

  refuse(read: number): void {
    const waiting = this.#waiting.get(read)
    this.#waiting.delete(read)
    waiting?.reject(waiting.refusal())
  }

  refuseAll(): void {
    for (const read of [...this.#waiting.keys()]) this.refuse(read)
  }
}
