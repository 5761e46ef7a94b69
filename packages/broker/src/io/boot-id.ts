// The identity of this run of the kernel, by which a broker learns that its machine was without power meanwhile.
import { randomUUID } from 'node:crypto'
import { readFileSync } from 'node:fs'

const PATH = '/proc/sys/kernel/random/boot_id'

/** Where the system does not tell, every process counts as the first after a power cut: the safe side. */
export function kernelBootId(path = PATH): string {
  try {
    const text = readFileSync(path, 'utf8').trim()
    return text === '' ? randomUUID() : text
  } catch {
    return randomUUID()
  }
}
