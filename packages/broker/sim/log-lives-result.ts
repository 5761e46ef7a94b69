// What the lives of a log store come to.

export interface LogLivesFailure {
  readonly invariant: 'lost' | 'phantom' | 'state' | 'damage-claimed' | 'exception' | 'stuck' | 'memory' | 'vote'
  readonly message: string
}

export interface LogLivesResult {
  readonly seed: number
  readonly images: number
  readonly failure: LogLivesFailure | null
  readonly coverage: Readonly<Record<string, number>>
  readonly traceHash: string
}

export class CheckFailed extends Error {
  constructor(
    readonly invariant: LogLivesFailure['invariant'],
    message: string,
  ) {
    super(message)
  }
}
