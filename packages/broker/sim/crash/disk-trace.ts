// What was asked of a disk and when it was answered: from it follows every state a crash could leave.

export type DiskOperation =
  | { readonly kind: 'write'; readonly file: string; readonly position: number; readonly bytes: Uint8Array }
  /** `flush` promises nothing for extents that were never written before; `sync` does, and the file's size. */
  | { readonly kind: 'flush' | 'sync'; readonly files: readonly string[] }
  | { readonly kind: 'create' | 'remove'; readonly file: string }
  | { readonly kind: 'allocate'; readonly file: string; readonly byteLength: number }
  | { readonly kind: 'syncDirectory' }
  | { readonly kind: 'writeSmall'; readonly file: string; readonly bytes: Uint8Array }

export type TraceEvent =
  | { readonly kind: 'submit'; readonly id: number; readonly operation: DiskOperation }
  | {
      readonly kind: 'complete'
      readonly id: number
      readonly operation: DiskOperation
      /** An error was answered. */
      readonly failed: boolean
    }
  /** Something outside the disk, such as an acknowledgement: by now it has happened. */
  | { readonly kind: 'note'; readonly apply: () => void }

export class DiskTrace {
  readonly events: TraceEvent[] = []

  /** @param nextId of the first operation: traces of one disk must not share them. */
  constructor(private nextId = 1) {}

  submit(operation: DiskOperation): number {
    const id = this.nextId++
    this.events.push({ kind: 'submit', id, operation })
    return id
  }

  complete(id: number, operation: DiskOperation, failed = false): void {
    this.events.push({ kind: 'complete', id, operation, failed })
  }

  note(apply: () => void): void {
    this.events.push({ kind: 'note', apply })
  }
}
