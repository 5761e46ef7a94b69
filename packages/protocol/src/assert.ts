// Assertions that stay on in production: a broken one is a bug in Millrace, never a matter of bad input.

export class AssertionError extends Error {
  override readonly name = 'AssertionError'
}

/** @throws AssertionError when `condition` is false. */
export function assert(condition: boolean, message: string): asserts condition {
  if (!condition) throw new AssertionError(message)
}

/** For the default branch of an exhaustive switch. */
export function unreachable(value: never): never {
  throw new AssertionError(`unreachable: ${String(value)}`)
}
