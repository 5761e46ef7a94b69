// A value of a type it does not have, as callers without a compiler pass them.

export const wrong = <T>(value: unknown): T => value as T
