// Work that ends when the test says so.

export class Workbench {
  readonly started: number[] = []
  readonly finished: number[] = []
  most = 0
  readonly #open = new Map<number, { resolve(): void; reject(error: unknown): void }>()

  readonly work = ({ offset }: { readonly offset: number }): Promise<number> => {
    this.started.push(offset)
    return new Promise((resolve, reject) => {
      this.#open.set(offset, {
        resolve: () => {
          this.finished.push(offset)
          resolve(offset)
        },
        reject,
      })
      this.most = Math.max(this.most, this.#open.size)
    })
  }

  get busy(): number[] {
    return [...this.#open.keys()]
  }

  finish(offset = this.busy[0]): void {
    const work = this.#open.get(offset!)!
    this.#open.delete(offset!)
    work.resolve()
  }

  fail(error: unknown, offset = this.busy[0]): void {
    const work = this.#open.get(offset!)!
    this.#open.delete(offset!)
    work.reject(error)
  }
}
