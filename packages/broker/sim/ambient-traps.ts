// While a simulation runs, product code that reaches for the real clock, chance or timers fails at once.

/** Frames that count as product code: the compiled packages and the library whose defaults read the real clock. */
const PRODUCT =
  /[/\\](?:packages[/\\](?:broker|client|protocol)|@millrace[/\\](?:broker|client|protocol)|rxjs)[/\\]dist[/\\]/

interface Trapped {
  readonly owner: object
  readonly key: string
  readonly name: string
}

function trappedNames(): Trapped[] {
  const timers = ['setTimeout', 'setInterval', 'setImmediate', 'queueMicrotask']
  return [
    { owner: Date, key: 'now', name: 'Date.now' },
    { owner: Math, key: 'random', name: 'Math.random' },
    { owner: performance, key: 'now', name: 'performance.now' },
    { owner: AbortSignal, key: 'timeout', name: 'AbortSignal.timeout' },
    { owner: crypto, key: 'getRandomValues', name: 'crypto.getRandomValues' },
    { owner: crypto, key: 'randomUUID', name: 'crypto.randomUUID' },
    { owner: process, key: 'nextTick', name: 'process.nextTick' },
    { owner: process, key: 'hrtime', name: 'process.hrtime' },
    ...timers.map((key) => ({ owner: globalThis, key, name: key })),
  ]
}

function calledByProduct(): boolean {
  const limit = Error.stackTraceLimit
  Error.stackTraceLimit = 40
  const stack = new Error().stack ?? ''
  Error.stackTraceLimit = limit
  return PRODUCT.test(stack)
}

function refuse(name: string): void {
  if (calledByProduct()) {
    throw new Error(`${name} was called in a simulation: go through the environment, so that a seed decides everything`)
  }
}

/** Callers outside the product (the test runner, Node itself) are not disturbed. Returns what takes the traps off. */
export function setAmbientTraps(): () => void {
  const undo: (() => void)[] = []
  for (const { owner, key, name } of trappedNames()) {
    const before = Object.getOwnPropertyDescriptor(owner, key)
    const real: unknown = Reflect.get(owner, key)
    if (typeof real !== 'function') continue
    const trap = (...args: unknown[]): unknown => {
      refuse(name)
      return Reflect.apply(real, owner, args)
    }
    Object.defineProperty(owner, key, { configurable: true, writable: true, value: Object.assign(trap, real) })
    undo.push(() => {
      if (before === undefined) Reflect.deleteProperty(owner, key)
      else Object.defineProperty(owner, key, before)
    })
  }
  undo.push(trapDateConstructor())
  return () => {
    for (const each of undo) each()
  }
}

function trapDateConstructor(): () => void {
  const RealDate = Date
  globalThis.Date = new Proxy(RealDate, {
    construct(target, args, newTarget) {
      if (args.length === 0) refuse('new Date()')
      return Reflect.construct(target, args, newTarget) as object
    },
  })
  return () => {
    globalThis.Date = RealDate
  }
}
