// Declares tests that need a ring: where the machine refuses one, the refusal with its reason is the test instead.
import { execFileSync } from 'node:child_process'
import { constants, mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, it } from 'vitest'
import { openFile } from '#src/file.js'
import { probeKernel } from '#src/kernel-features.js'
import { type CompletionSink, Ring } from '#src/ring.js'

export const report = probeKernel()

export function describeNative(name: string, declare: () => void): void {
  const { ring } = report
  if (ring.available) {
    describe(name, declare)
    return
  }
  it(`${name} passes by refusal: ${ring.reason}`, () => {
    expect(ring.reason).toMatch(/\w+/)
    expect(ring.hint).toMatch(/\w+/)
  })
}

export interface Completion {
  readonly slot: number
  readonly generation: number
  readonly result: number
  readonly flags: number
}

/** A ring that is driven by hand, outside of the event loop. */
export class HandDrivenRing implements CompletionSink {
  readonly ring: Ring
  readonly completions: Completion[] = []

  constructor(options: { entries?: number; completions?: number; allowedFlags?: number } = {}) {
    const { entries = 64, completions = 256, allowedFlags } = options
    this.ring = new Ring({ entries, completions, ...(allowedFlags === undefined ? {} : { allowedFlags }) })
  }

  complete(slot: number, generation: number, result: number, flags: number): void {
    this.completions.push({ slot, generation, result, flags })
  }

  /** Enters until `count` completions came; all that came. */
  async collect(count: number, limitMs = 5000): Promise<Completion[]> {
    const deadline = performance.now() + limitMs
    for (;;) {
      this.ring.submit()
      this.ring.reap(this)
      if (this.completions.length >= count) return this.completions.splice(0)
      if (performance.now() > deadline) {
        throw new Error(`${this.completions.length} of ${count} completions came within ${limitMs} ms`)
      }
      await new Promise((resolve) => setTimeout(resolve, 1))
    }
  }
}

/** A pipe that is open for both ends here and never written to. */
export function neverReadable(): number {
  const folder = mkdtempSync(join(tmpdir(), 'millrace-native-'))
  const path = join(folder, 'pipe')
  execFileSync('mkfifo', [path])
  const descriptor = openFile(path, constants.O_RDWR)
  rmSync(folder, { recursive: true })
  return descriptor
}
