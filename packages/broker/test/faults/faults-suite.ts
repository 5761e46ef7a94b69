// Declares tests that need the disk that misbehaves: where it cannot be mounted, the refusal with its reason is the test.
import { expect, it } from 'vitest'
import { FaultyDisk } from './faulty-disk.js'

export async function describeFaults(declare: () => void): Promise<void> {
  const disk = await FaultyDisk.create()
  if ('refused' in disk) {
    it(`passes by refusal: ${disk.refused}`, () => expect(disk.refused).toMatch(/\w+/))
    return
  }
  await disk.end()
  declare()
}
