// Every place that may do what a tidy rule forbids elsewhere, with the reason. One nobody needs any more is a finding.
import type { Finding } from '../repository.js'

export interface Exception {
  readonly rule: string
  /** The file the exception is for, from the root. */
  readonly path: string
  /** What is allowed there: the part of the finding's message that names it. */
  readonly allows: string
  readonly reason: string
}

export const EXCEPTIONS: readonly Exception[] = [
  {
    rule: 'layering',
    path: 'packages/client/src/environment.ts',
    allows: 'rxjs',
    reason: 'the type SchedulerLike only: every RxJS operator with time runs on the scheduler of the environment',
  },
  {
    rule: 'layering',
    path: 'packages/broker/src/message-pack.ts',
    allows: 'msgpackr',
    reason: 'the one place that knows how admin payloads and metadata entries become bytes',
  },
  {
    rule: 'ambient',
    path: 'packages/native/src/binding.ts',
    allows: 'process',
    reason: 'finds the addon built for this platform, processor and Node; reads no time and does nothing else',
  },
]

/** The findings no exception covers, and a finding for each exception that covers nothing. */
export function applyExceptions(
  findings: readonly Finding[],
  exceptions: readonly Exception[] = EXCEPTIONS,
): readonly Finding[] {
  const covers = (exception: Exception, finding: Finding): boolean =>
    exception.rule === finding.rule && exception.path === finding.path && finding.message.includes(exception.allows)
  const left = findings.filter((finding) => !exceptions.some((exception) => covers(exception, finding)))
  const idle = exceptions.filter((exception) => !findings.some((finding) => covers(exception, finding)))
  return [
    ...left,
    ...idle.map((exception) => ({
      rule: 'exceptions',
      path: exception.path,
      line: 0,
      message: `the exception from ${exception.rule} for ${exception.allows} is no longer needed; remove it`,
    })),
  ]
}
