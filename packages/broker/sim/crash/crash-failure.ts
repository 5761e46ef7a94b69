// What a crash state can show to be wrong.

export const CRASH_INVARIANTS = [
  /** Something promised is not there. */
  'lost',
  /** Something is there that nobody gave, not yet, or not any more. */
  'phantom',
  'wrong bytes',
  /** What the owner of the log was told does not make its batches. */
  'wrong state',
  /** An index of offsets, times or terms is not what the log says. */
  'wrong index',
  /** An honest power cut was taken for damage. */
  'damage claimed',
  /** Damage of what was flushed was cut, although the disk holds proof that it was flushed. */
  'damage hidden',
  'not idempotent',
  /** What was recovered counts as flushed before a flush, or not after it. */
  'not flushed',
  /** A saved term or vote is not there, or one is there that nobody gave. */
  'vote',
  /** Recovery reads more than tail and index. */
  'reads too much',
  'exception',
] as const
export type CrashInvariant = (typeof CRASH_INVARIANTS)[number]

export class CrashFailure extends Error {
  override readonly name = 'CrashFailure'
  constructor(
    readonly invariant: CrashInvariant,
    message: string,
    options?: { readonly cause: unknown },
  ) {
    super(message, options)
  }
}
